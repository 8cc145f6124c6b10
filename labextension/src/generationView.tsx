/** An answer in the making: its text, its figures, and Stop. */

import * as React from 'react';

import { isGenerating, State, tokensPerS } from './model';
import { Origin } from './parts';
import { cleanName, Trans } from './text';
import { TokenText } from './tokenText';
import { showRate, showSeconds } from './units';

export interface GenerationProps {
  readonly state: State;
  readonly trans: Trans;
  readonly stop: () => void;
}

export function GenerationView(props: GenerationProps): React.ReactElement | null {
  const { state, trans } = props;
  const generation = state.generation;
  const running = isGenerating(state);
  if (generation === null) {
    return null;
  }
  const first = generation.stats?.ttft_s ?? generation.tokens.find(token => token.index === 0)?.at_s ?? null;
  const rate = tokensPerS(state);
  const total = generation.stats?.tokens ?? (generation.tokens.at(-1)?.index ?? -1) + 1;
  const finish = generation.stats?.finish ?? null;
  const words = {
    stop: trans.__('finished'),
    length: trans.__('as long as was asked for'),
    cancelled: trans.__('stopped'),
    error: trans.__('failed')
  };
  return (
    <section role="group" className="jp-ExoLab-generation" aria-label={trans.__('Answer')}>
      <div className="jp-ExoLab-cardHead">
        <b>{cleanName(generation.model)}</b>
        <span className="jp-ExoLab-faint">
          {running ? trans.__('is answering') : finish === null ? '' : words[finish]}
        </span>
        {running && (
          <button type="button" className="jp-ExoLab-button jp-mod-warn" onClick={props.stop}>
            {trans.__('Stop')}
          </button>
        )}
      </div>
      <TokenText key={generation.request} tokens={generation.tokens} running={running} trans={trans} />
      <div className="jp-ExoLab-faint">
        {[
          trans._n('%1 token', '%1 tokens', total),
          first === null ? '' : trans.__('first after %1', showSeconds(first)),
          rate === null ? '' : showRate(rate)
        ]
          .filter(text => text !== '')
          .join(' \u00b7 ')}{' '}
        <Origin kind="measured" trans={trans} />
      </div>
    </section>
  );
}
