/**
 * The text of an answer, token by token: tinted by how sure the model was, unsure ones underlined.
 *
 * A token is chosen with the mouse, or with Tab and the arrow keys; the line under the text says its probability and what
 * else it might have been. Tokens are drawn in chunks, so that those that came later leave the earlier ones alone.
 */

import * as React from 'react';

import { clean, Trans } from './text';
import { TokenEvent } from './types';

const SHOWN = 1500; // the last so many tokens, about; a page with more of them is slow
const CHUNK = 50;

interface Chunk {
  readonly key: number;
  readonly tokens: ReadonlyArray<TokenEvent>;
}

export function TokenText(props: {
  tokens: ReadonlyArray<TokenEvent>;
  running: boolean;
  trans: Trans;
}): React.ReactElement {
  const { tokens, running, trans } = props;
  const box = React.useRef<HTMLDivElement>(null);
  const line = React.useId();
  const [index, choose] = React.useState<number | null>(null);
  const chunks = chunksOf(tokens);
  const first = chunks[0]?.tokens[0]?.index ?? 0;
  const chosen = index === null || index < first ? undefined : tokens.find(token => token.index === index);
  // Tab leads to the chosen token, else to the end of the text, which is what is seen of a long one.
  const stop = chosen ?? tokens.findLast(hasText);
  React.useLayoutEffect(() => {
    if (running && box.current !== null && chosen === undefined) {
      box.current.scrollTop = box.current.scrollHeight;
    }
  }, [tokens, running, chosen]);
  return (
    <>
      <div
        ref={box}
        className="jp-ExoLab-text"
        role="group"
        aria-label={trans.__('Text of the answer')}
        onFocus={event => choose(indexOf(event.target))}
        onClick={event => focus(event.target as Element)}
        onKeyDown={move}
      >
        {chunks.map(chunk => (
          <ChunkSpan
            key={chunk.key}
            tokens={chunk.tokens}
            stop={stop !== undefined && chunk.tokens.includes(stop) ? stop.index : null}
            line={line}
            trans={trans}
          />
        ))}
      </div>
      <div id={line} className="jp-ExoLab-faint">
        {chosen !== undefined
          ? sentence(chosen, trans)
          : stop !== undefined &&
            trans.__('Click a token, or go there with Tab and the arrow keys, for its probability.')}
      </div>
    </>
  );
}

/** The last tokens; all chunks but the last are what they were before. */
function chunksOf(tokens: ReadonlyArray<TokenEvent>): ReadonlyArray<Chunk> {
  const chunks: { key: number; tokens: TokenEvent[] }[] = [];
  const least = Math.floor(((tokens.at(-1)?.index ?? 0) + 1 - SHOWN) / CHUNK);
  for (const token of tokens) {
    const key = Math.floor(token.index / CHUNK);
    if (key >= least) {
      if (chunks.at(-1)?.key !== key) {
        chunks.push({ key, tokens: [] });
      }
      chunks.at(-1)?.tokens.push(token);
    }
  }
  return chunks;
}

interface ChunkProps {
  readonly tokens: ReadonlyArray<TokenEvent>;
  /** Which of them Tab leads to, if it is one of these. */
  readonly stop: number | null;
  /** Id of the line that describes it. */
  readonly line: string;
  readonly trans: Trans;
}

const ChunkSpan = React.memo(function ChunkSpan(props: ChunkProps): React.ReactElement {
  const { tokens, stop, line, trans } = props;
  return (
    <span>
      {tokens.map(token => (
        <TokenSpan
          key={token.index}
          token={token}
          described={token.index === stop ? line : null}
          trans={trans}
        />
      ))}
    </span>
  );
}, sameChunk);

/** Tokens only ever come at the end, so that length and ends tell. */
function sameChunk(a: ChunkProps, b: ChunkProps): boolean {
  const { tokens: was } = a;
  const { tokens: is } = b;
  return (
    was.length === is.length &&
    was[0] === is[0] &&
    was.at(-1) === is.at(-1) &&
    a.stop === b.stop &&
    a.trans === b.trans
  );
}

const TokenSpan = React.memo(function TokenSpan(props: {
  token: TokenEvent;
  described: string | null;
  trans: Trans;
}): React.ReactElement {
  const { token, described, trans } = props;
  const chance = Math.exp(token.logprob);
  const doubt = Math.min(1, Math.max(0, 1 - chance));
  return (
    <span
      className={chance < 0.5 ? 'jp-ExoLab-token jp-mod-unsure' : 'jp-ExoLab-token'}
      style={{ '--jp-exolab-doubt': `${Math.round(doubt * 45)}%` } as React.CSSProperties}
      title={[trans.__('probability %1', percent(chance)), ...others(token)].join('\n')}
      data-index={hasText(token) ? token.index : undefined}
      tabIndex={hasText(token) ? (described === null ? -1 : 0) : undefined}
      aria-describedby={described ?? undefined}
    >
      {token.text}
    </span>
  );
});

/** Arrow keys, Home and End: to another token, from the one that has the focus. */
function move(event: React.KeyboardEvent<HTMLElement>): void {
  const spans = [...event.currentTarget.querySelectorAll('[data-index]')];
  const at = spans.indexOf(event.target as Element);
  const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: spans.length - 1 }[event.key];
  if (to !== undefined) {
    event.preventDefault();
    focus(spans[Math.min(spans.length - 1, Math.max(0, to))]);
  }
}

function focus(span: Element | undefined): void {
  if (span instanceof HTMLElement && indexOf(span) !== null) {
    span.focus();
  }
}

function indexOf(element: Element): number | null {
  const index = element.getAttribute('data-index');
  return index === null ? null : Number(index);
}

/** Where a character is not complete yet, a token has no text and there is nothing to see of it. */
function hasText(token: TokenEvent): boolean {
  return token.text !== '';
}

function sentence(token: TokenEvent, trans: Trans): string {
  const said = trans.__('%1: probability %2.', quoted(token.text), percent(Math.exp(token.logprob)));
  const alternatives = others(token);
  return alternatives.length === 0
    ? said
    : `${said} ${trans.__('Most likely there: %1.', alternatives.join(', '))}`;
}

function others(token: TokenEvent): string[] {
  return token.alternatives.map(([text, logprob]) => `${quoted(text)} ${percent(Math.exp(logprob))}`);
}

function quoted(text: string): string {
  return JSON.stringify(clean(text, 40) || text);
}

function percent(share: number): string {
  return `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)} %`;
}
