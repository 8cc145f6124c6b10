/** A cluster in a line. */

import { livingNodes, shownModel, State, tokensPerS } from './model';
import { cleanName, Trans } from './text';
import { showRate } from './units';

/** "3 nodes · SmolLM2-135M · 41.5 tok/s · ▲ 1 alert", as far as there is something to say. */
export function statusText(state: State, trans: Trans): string {
  const rate = tokensPerS(state);
  const raised = (state.status?.alerts ?? []).filter(alert => alert.state === 'raised').length;
  const predicted = state.status?.forecasts.length ?? 0;
  return [
    trans._n('%1 node', '%1 nodes', livingNodes(state).length),
    cleanName(shownModel(state)?.plan.model ?? trans.__('no model')),
    rate === null ? '' : showRate(rate),
    raised === 0 ? '' : `\u25b2 ${trans._n('%1 alert', '%1 alerts', raised)}`,
    predicted === 0 ? '' : `\u25f7 ${trans.__('%1 predicted', predicted)}`
  ]
    .filter(text => text !== '')
    .join(' \u00b7 ');
}
