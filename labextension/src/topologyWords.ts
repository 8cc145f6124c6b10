/** What the topology says in words: under a device, on a link, to a screen reader. */

import { State } from './model';
import { Place } from './ring';
import { cleanName, Trans } from './text';
import { Link, Plan } from './types';
import { showBandwidth, showBytes, showLayers, showSeconds } from './units';

/** Kind, latency, bandwidth; what was not measured is not said. */
export function linkWords(link: Link, trans: Trans): string[] {
  const words = [link.kind === 'unknown' ? '' : link.kind];
  if (link.latency_s !== null) {
    words.push(showSeconds(link.latency_s));
  }
  if (link.bandwidth_bytes_per_s !== null) {
    words.push(showBandwidth(link.bandwidth_bytes_per_s));
  }
  if (link.emulated !== '') {
    words.push(trans.__('emulated'));
  }
  return words.filter(word => word !== '');
}

/** What stands under a device: how loaded, what it holds, and whatever is out of the ordinary. */
export function deviceLines(place: Place, plan: Plan | null, trans: Trans, narrow = false): string[] {
  const { node, stage } = place;
  const lines: string[] = [];
  const load =
    node.load === null || node.liveness === 'lost' ? '' : trans.__('load %1 %', Math.round(node.load * 100));
  const shard = plan === null || stage === null ? null : plan.shards[stage];
  const holds = shard === null ? '' : trans.__('layers %1', showLayers(shard.start, shard.end));
  lines.push(...(narrow ? [load, holds] : [[load, holds].filter(text => text !== '').join(' \u00b7 ')]));
  const marks = [
    node.is_self ? trans.__('this kernel') : '',
    node.device.emulated === '' ? '' : trans.__('emulated'),
    node.liveness === 'suspect' ? trans.__('does not answer') : '',
    node.liveness === 'lost' ? trans.__('lost') : ''
  ];
  lines.push(marks.filter(text => text !== '').join(', '));
  return lines.filter(line => line !== '');
}

export function deviceSentence(place: Place, plan: Plan | null, trans: Trans): string {
  const { node } = place;
  const memory =
    node.device.memory_bytes > 0 ? trans.__('memory %1', showBytes(node.device.memory_bytes)) : '';
  return [cleanName(node.device.name), memory, ...deviceLines(place, plan, trans)]
    .filter(text => text !== '')
    .join(', ');
}

export function describe(state: State, plan: Plan | null, trans: Trans): string {
  const count = state.status?.nodes.length ?? 0;
  const nodes = trans._n('%1 node', '%1 nodes', count);
  if (plan === null) {
    return trans.__('%1; no model is loaded', nodes);
  }
  const names = plan.devices.map(id => {
    const node = state.status?.nodes.find(one => one.device.id === id);
    return node === undefined ? id.slice(0, 8) : cleanName(node.device.name);
  });
  return trans.__('%1; %2 goes round %3', nodes, cleanName(plan.model), names.join(', '));
}

export function heldText(shard: Plan['shards'][number], stage: number, trans: Trans): string {
  const ends = [
    shard.start === 0 ? trans.__('embedding') : '',
    trans.__('layers %1', showLayers(shard.start, shard.end)),
    shard.end === shard.n_layers ? trans.__('head') : ''
  ];
  return trans.__('stage %1: %2', stage + 1, ends.filter(text => text !== '').join(', '));
}

export function memoryText(place: Place, trans: Trans): string {
  const { device, memory_available_bytes: free } = place.node;
  if (device.memory_bytes <= 0) {
    return '';
  }
  return free === null
    ? showBytes(device.memory_bytes)
    : trans.__('%1, %2 available', showBytes(device.memory_bytes), showBytes(free));
}
