/** Alerts and forecasts as sentences: a port of exo_lab/front/alert_words.py, held to it by a test. */

import { clean, cleanName, Trans } from './text';
import { Alert, ClusterStatus, Forecast } from './types';
import { showBandwidth, showSeconds } from './units';

/** A reading with its unit: 0.91 of memory is "91 %". */
export function showQuantity(quantity: Alert['quantity'], value: number): string {
  switch (quantity) {
    case 'latency':
      return showSeconds(value);
    case 'bandwidth':
      return showBandwidth(value);
    case 'temperature':
      return `${value.toFixed(0)} \u00b0C`;
    default:
      return `${(100 * value).toFixed(0)} %`;
  }
}

/** Of what it is: "memory of node-b", "latency from node-b to node-c", "temperature (cpu) of node-b". */
export function subject(one: Alert | Forecast, status: ClusterStatus, trans: Trans): string {
  const node = nameOf(one.node, status);
  const word = one.quantity === 'compute' ? trans.__('compute use') : trans.__(one.quantity);
  if (one.quantity === 'latency' || one.quantity === 'bandwidth') {
    return trans.__('%1 from %2 to %3', word, node, nameOf(one.about, status));
  }
  return one.about === ''
    ? trans.__('%1 of %2', word, node)
    : trans.__('%1 (%2) of %3', word, clean(one.about, 20), node);
}

/** Such as "memory of node-b is at 92 %, above 85 % for 40 s (alert 3fa2-1)". */
export function alertWords(alert: Alert, status: ClusterStatus, trans: Trans): string {
  const values = [alert.value, alert.threshold].map(value => showQuantity(alert.quantity, value));
  const name = clean(alert.id, 20);
  return trans.__(
    '%1 is at %2, above %3 for %4 (alert %5)',
    subject(alert, status, trans),
    ...values,
    showWhile(status.at_s - alert.since_s),
    alert.state === 'acknowledged' ? trans.__('%1, acknowledged', name) : name
  );
}

/** Such as "memory of node-b reaches 85 % in about 40 s (predicted, 90 % interval 31 s to 55 s)". */
export function forecastWords(forecast: Forecast, status: ClusterStatus, trans: Trans): string {
  const soonest = showWhile(forecast.soonest_s);
  return trans.__(
    '%1 reaches %2 in about %3 (predicted, %4 % interval %5)',
    subject(forecast, status, trans),
    showQuantity(forecast.quantity, forecast.threshold),
    showWhile(forecast.lead_s),
    (100 * forecast.confidence).toFixed(0),
    forecast.latest_s === null
      ? trans.__('from %1 on', soonest)
      : trans.__('%1 to %2', soonest, showWhile(forecast.latest_s))
  );
}

/** Whole seconds, minutes, hours; none below 0: a clock of another machine may be a little off. */
export function showWhile(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 120) {
    return `${whole} s`;
  }
  return whole < 7200 ? `${Math.floor(whole / 60)} min` : `${Math.floor(whole / 3600)} h`;
}

function nameOf(id: string, status: ClusterStatus): string {
  const node = status.nodes.find(one => one.device.id === id);
  return cleanName(node?.device.name ?? id.slice(0, 8));
}
