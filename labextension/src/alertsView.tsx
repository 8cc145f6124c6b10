/** What is too much on a node, and what is predicted to become so; nothing where neither is. */

import * as React from 'react';

import { alertWords, forecastWords, subject } from './alertWords';
import { clean, Trans } from './text';
import { Alert, ClusterStatus } from './types';

export interface AlertsProps {
  readonly status: ClusterStatus;
  readonly trans: Trans;
  /** Tell the alert's node that somebody has seen it; rejects if it cannot be told. */
  readonly acknowledge: (alert: string) => Promise<unknown>;
}

export function AlertsView(props: AlertsProps): React.ReactElement | null {
  const { status, trans, acknowledge } = props;
  const [problem, setProblem] = React.useState('');
  const told = [...status.alerts.filter(isRaised), ...status.forecasts];
  if (status.alerts.length === 0 && status.forecasts.length === 0) {
    return null;
  }
  const press = (alert: Alert): void => {
    setProblem('');
    acknowledge(alert.id).catch((error: unknown) => setProblem(clean(String(error))));
  };
  return (
    <section role="group" className="jp-ExoLab-alerts" aria-label={trans.__('Alerts')}>
      <ul>
        {status.alerts.map(alert => (
          <li key={alert.id} className={isRaised(alert) ? 'jp-mod-raised' : ''}>
            <span aria-hidden="true">{isRaised(alert) ? '\u25b2' : '\u25b3'}</span>
            <span>{alertWords(alert, status, trans)}</span>
            {isRaised(alert) && (
              <button type="button" className="jp-ExoLab-link" onClick={() => press(alert)}>
                {trans.__('Acknowledge')}
              </button>
            )}
          </li>
        ))}
        {status.forecasts.map(forecast => (
          <li key={`${forecast.node} ${forecast.quantity} ${forecast.about}`} className="jp-mod-predicted">
            <span aria-hidden="true">{'\u25f7'}</span>
            <span>{forecastWords(forecast, status, trans)}</span>
          </li>
        ))}
      </ul>
      {problem !== '' && <div className="jp-ExoLab-refusal">{problem}</div>}
      {/* Figures change every second; what is read out changes only when there is something new. */}
      <div className="jp-ExoLab-hidden" role="status">
        {told.map(one => subject(one, status, trans)).join(', ')}
      </div>
    </section>
  );
}

function isRaised(alert: Alert): boolean {
  return alert.state === 'raised';
}
