/** Small pieces that the views share. */

import type { ISignal } from '@lumino/signaling';
import * as React from 'react';

import { hatch, Mark, n } from './palette';
import { Trans } from './text';

/** A rectangle in a device's colour and hatching; a dashed edge says that it is emulated. */
export function DeviceBox(props: {
  mark: Mark;
  x: number;
  y: number;
  width: number;
  height: number;
  radius?: number;
  emulated?: boolean;
}): React.ReactElement {
  const { mark, x, y, width, height, radius = 0, emulated = false } = props;
  const lines = hatch(mark.hatching, x, y, width, height);
  return (
    <g aria-hidden="true">
      <rect x={n(x)} y={n(y)} width={n(width)} height={n(height)} rx={radius} fill={mark.colour} />
      {lines !== '' && <path d={lines} className="jp-ExoLab-hatch" stroke={mark.ink} />}
      <rect
        x={n(x)}
        y={n(y)}
        width={n(width)}
        height={n(height)}
        rx={radius}
        className={emulated ? 'jp-ExoLab-edge jp-mod-emulated' : 'jp-ExoLab-edge'}
      />
    </g>
  );
}

/** A device's number on its plain colour, readable over any hatching. */
export function Pill(props: { mark: Mark; x: number; y: number }): React.ReactElement {
  const { mark, x, y } = props;
  const width = 9 + 8 * mark.number.length;
  return (
    <g aria-hidden="true">
      <rect x={n(x - width / 2)} y={n(y - 9)} width={width} height={18} rx={4} fill={mark.colour} />
      <text x={n(x)} y={n(y + 4.5)} textAnchor="middle" className="jp-ExoLab-pill" style={{ fill: mark.ink }}>
        {mark.number}
      </text>
    </g>
  );
}

/** A device's colour, hatching and number in a line of text. */
export function Swatch(props: { mark: Mark; emulated?: boolean }): React.ReactElement {
  return (
    <span className="jp-ExoLab-swatch">
      <svg viewBox="0 0 26 16" width={26} height={16} aria-hidden="true">
        <DeviceBox
          mark={props.mark}
          x={1}
          y={1}
          width={24}
          height={14}
          radius={2}
          emulated={props.emulated}
        />
      </svg>
      <b>{props.mark.number}</b>
    </span>
  );
}

/** Says where a figure comes from. */
export function Origin(props: {
  kind: 'predicted' | 'measured' | 'emulated';
  trans: Trans;
}): React.ReactElement {
  const { kind, trans } = props;
  const words = {
    predicted: trans.__('predicted'),
    measured: trans.__('measured'),
    emulated: trans.__('emulated')
  };
  return <span className={`jp-ExoLab-origin jp-mod-${kind}`}>{words[kind]}</span>;
}

/** Said aloud by screen readers when it changes. */
export function Announcement(props: { text: string }): React.ReactElement {
  return (
    <div className="jp-ExoLab-hidden" role="status" aria-live="polite">
      {props.text}
    </div>
  );
}

/** Render again whenever the signal is emitted. */
export function useSignal<S>(signal: ISignal<S, void>): void {
  const [, again] = React.useReducer((count: number) => count + 1, 0);
  React.useEffect(() => {
    const slot = (): void => again();
    signal.connect(slot);
    again(); // what was emitted between the first drawing and now
    return () => {
      signal.disconnect(slot);
    };
  }, [signal]);
}

/** Can anybody see what is drawn? Where not, it stays as it is and costs nothing. */
export const Shown = React.createContext(true);

/**
 * Render again when the signal is emitted, once a frame however often that is: tokens come faster than a screen shows them.
 * A page in the background has no frames. Not while nobody can see it; what was missed comes with the next showing.
 */
export function useFrames<S>(signal: ISignal<S, void>): void {
  const shown = React.useContext(Shown);
  const [, again] = React.useReducer((count: number) => count + 1, 0);
  React.useEffect(() => {
    if (!shown) {
      return undefined;
    }
    let asked: number | null = null;
    const slot = (): void => {
      asked ??= requestAnimationFrame(() => {
        asked = null;
        again();
      });
    };
    signal.connect(slot);
    again(); // what was emitted between the first drawing and now
    return () => {
      signal.disconnect(slot);
      if (asked !== null) {
        cancelAnimationFrame(asked);
      }
    };
  }, [signal, shown]);
}

/** What a value is now and then: a view that redraws at each change of a fast one would be all that a page does. */
export function useSlowly<T>(value: T, everyMs: number): T {
  const [shown, show] = React.useState(() => value);
  const latest = React.useRef(value);
  latest.current = value;
  React.useEffect(() => {
    const timer = setInterval(() => show(() => latest.current), everyMs);
    return () => clearInterval(timer);
  }, [everyMs]);
  return shown;
}

/** The width in pixels that an element has, and the reference to give it. */
export function useWidth(fallback: number): readonly [React.RefCallback<HTMLDivElement>, number] {
  const [element, setElement] = React.useState<HTMLDivElement | null>(null);
  const [width, setWidth] = React.useState(fallback);
  React.useLayoutEffect(() => {
    if (element === null) {
      return undefined;
    }
    if (element.clientWidth > 0) {
      setWidth(element.clientWidth); // the observer speaks only after the first drawing
    }
    if (typeof ResizeObserver === 'undefined') {
      return undefined;
    }
    const observer = new ResizeObserver(entries => {
      const seen = entries[0]?.contentRect.width ?? 0;
      if (seen > 0) {
        setWidth(Math.floor(seen));
      }
    });
    observer.observe(element);
    return () => observer.disconnect();
  }, [element]);
  return [setElement, width];
}

/** Does the person want no motion? */
export function useReducedMotion(): boolean {
  const query = React.useMemo(
    () => (typeof matchMedia === 'function' ? matchMedia('(prefers-reduced-motion: reduce)') : null),
    []
  );
  const [reduced, setReduced] = React.useState(query?.matches ?? false);
  React.useEffect(() => {
    if (query === null) {
      return undefined;
    }
    const changed = (): void => setReduced(query.matches);
    query.addEventListener('change', changed);
    return () => query.removeEventListener('change', changed);
  }, [query]);
  return reduced;
}
