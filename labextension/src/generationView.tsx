/**
 * An answer in the making: text that is tinted by how sure the model was, its figures, and Stop.
 *
 * A token's tint is its probability; unsure ones are underlined too. What else it might have been is in its tooltip.
 */

import * as React from 'react';

import { isGenerating, State, tokensPerS } from './model';
import { Origin } from './parts';
import { clean, cleanName, Trans } from './text';
import { TokenEvent } from './types';
import { showRate, showSeconds } from './units';

const SHOWN = 1500; // the last so many tokens; a page with more of them is slow

export interface GenerationProps {
  readonly state: State;
  readonly trans: Trans;
  readonly stop: () => void;
}

export function GenerationView(props: GenerationProps): React.ReactElement | null {
  const { state, trans } = props;
  const generation = state.generation;
  const running = isGenerating(state);
  const box = React.useRef<HTMLDivElement>(null);
  const count = generation?.tokens.length ?? 0;
  React.useLayoutEffect(() => {
    if (running && box.current !== null) {
      box.current.scrollTop = box.current.scrollHeight;
    }
  }, [count, running]);
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
      <div
        ref={box}
        className="jp-ExoLab-text"
        tabIndex={0}
        role="group"
        aria-label={trans.__('Text of the answer')}
      >
        {generation.tokens.slice(-SHOWN).map(token => (
          <TokenSpan key={token.index} token={token} trans={trans} />
        ))}
      </div>
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

const TokenSpan = React.memo(function TokenSpan(props: {
  token: TokenEvent;
  trans: Trans;
}): React.ReactElement {
  const { token, trans } = props;
  const chance = Math.exp(token.logprob);
  const doubt = Math.min(1, Math.max(0, 1 - chance));
  const others = token.alternatives.map(
    ([text, logprob]) => `${JSON.stringify(clean(text, 40) || text)} ${percent(Math.exp(logprob))}`
  );
  const tip = [trans.__('probability %1', percent(chance)), ...others].join('\n');
  const classes = ['jp-ExoLab-token'];
  if (chance < 0.5) {
    classes.push('jp-mod-unsure');
  }
  return (
    <span
      className={classes.join(' ')}
      style={{ '--jp-exolab-doubt': `${Math.round(doubt * 45)}%` } as React.CSSProperties}
      title={tip}
    >
      {token.text}
    </span>
  );
});

function percent(share: number): string {
  return `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)} %`;
}
