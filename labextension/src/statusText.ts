/** A cluster in a line. */

import { livingNodes, shownModel, State, tokensPerS } from './model';
import { cleanName, Trans } from './text';
import { showRate } from './units';

/** "3 nodes · SmolLM2-135M · 41.5 tok/s", as far as there is something to say. */
export function statusText(state: State, trans: Trans): string {
  const rate = tokensPerS(state);
  return [
    trans._n('%1 node', '%1 nodes', livingNodes(state).length),
    cleanName(shownModel(state)?.plan.model ?? trans.__('no model')),
    rate === null ? '' : showRate(rate)
  ]
    .filter(text => text !== '')
    .join(' \u00b7 ');
}
