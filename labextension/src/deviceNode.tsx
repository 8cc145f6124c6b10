/** One device in the topology picture: size is memory, the arc is load, the halo is lit while its stage computes. */

import * as React from 'react';

import { hatch, Mark, n } from './palette';
import { Place } from './ring';
import { cleanName, Trans } from './text';
import { deviceLines, deviceSentence } from './topologyWords';
import { Plan } from './types';

export const TURN_S = 1.6; // one turn of the ring as it is shown; a real one is faster than an eye

export interface Lit {
  /** Part of a turn, [from, to); null when nothing runs, or motion is not wanted. */
  readonly share: readonly [number, number] | null;
  readonly on: boolean;
}

export function DeviceNode(props: {
  place: Place;
  mark: Mark;
  plan: Plan | null;
  lit: Lit;
  narrow: boolean;
  selected: boolean;
  tabbable: boolean;
  click: () => void;
  keyDown: (event: React.KeyboardEvent) => void;
  reference: (element: SVGElement | null) => void;
  trans: Trans;
}): React.ReactElement {
  const { place, mark, plan, lit, trans } = props;
  const { node, x, y, radius } = place;
  const classes = ['jp-ExoLab-device', `jp-mod-${node.liveness}`];
  if (props.selected) {
    classes.push('jp-mod-selected');
  }
  if (lit.on) {
    classes.push('jp-mod-running');
  }
  const lines = deviceLines(place, plan, trans, props.narrow);
  const base = place.above ? y - radius - 18 - 14 * lines.length : y + radius + 27;
  return (
    <g className={classes.join(' ')} onClick={props.click}>
      <g aria-hidden="true">
        <circle className="jp-ExoLab-halo" cx={n(x)} cy={n(y)} r={n(radius + 9)}>
          {lit.share !== null && <Blink share={lit.share} />}
        </circle>
        <Disc mark={mark} x={x} y={y} radius={radius} emulated={node.device.emulated !== ''} />
        {node.load !== null && node.liveness !== 'lost' && (
          <LoadArc x={x} y={y} radius={radius + 4} load={node.load} />
        )}
        {node.liveness === 'lost' && <Cross x={x} y={y} radius={radius} />}
        <text className="jp-ExoLab-deviceName" x={n(x)} y={n(base)} textAnchor="middle">
          {short(cleanName(node.device.name), props.narrow ? 12 : 20)}
        </text>
        {lines.map((line, i) => (
          <text
            key={i}
            className="jp-ExoLab-deviceLine"
            x={n(x)}
            y={n(base + 14 * (i + 1))}
            textAnchor="middle"
          >
            {line}
          </text>
        ))}
      </g>
      <circle
        className="jp-ExoLab-focus"
        cx={n(x)}
        cy={n(y)}
        r={n(radius + 13)}
        role="button"
        tabIndex={props.tabbable ? 0 : -1}
        aria-pressed={props.selected}
        aria-label={deviceSentence(place, plan, trans)}
        onKeyDown={props.keyDown}
        ref={props.reference}
      />
    </g>
  );
}

function Cross(props: { x: number; y: number; radius: number }): React.ReactElement {
  const { x, y, radius } = props;
  const [left, right, top, bottom] = [n(x - radius), n(x + radius), n(y - radius), n(y + radius)];
  return (
    <path
      className="jp-ExoLab-cross"
      d={`M${left} ${top}L${right} ${bottom}M${left} ${bottom}L${right} ${top}`}
    />
  );
}

function Disc(props: {
  mark: Mark;
  x: number;
  y: number;
  radius: number;
  emulated: boolean;
}): React.ReactElement {
  const { mark, x, y, radius } = props;
  // The hatching of the square inside the circle.
  const side = radius * Math.SQRT2;
  const lines = hatch(mark.hatching, x - side / 2, y - side / 2, side, side);
  return (
    <g aria-hidden="true" className="jp-ExoLab-disc">
      <circle cx={n(x)} cy={n(y)} r={n(radius)} fill={mark.colour} />
      {lines !== '' && <path d={lines} className="jp-ExoLab-hatch" stroke={mark.ink} />}
      <circle
        cx={n(x)}
        cy={n(y)}
        r={n(radius)}
        className={props.emulated ? 'jp-ExoLab-edge jp-mod-emulated' : 'jp-ExoLab-edge'}
      />
      <circle cx={n(x)} cy={n(y)} r={n(Math.min(12, radius * 0.6))} fill={mark.colour} />
      <text x={n(x)} y={n(y + 5)} textAnchor="middle" className="jp-ExoLab-pill" style={{ fill: mark.ink }}>
        {mark.number}
      </text>
    </g>
  );
}

/** How much of a circle is drawn is the load; its colour says the same in three steps. */
function LoadArc(props: { x: number; y: number; radius: number; load: number }): React.ReactElement {
  const { x, y, radius } = props;
  const load = Math.min(1, Math.max(0, props.load));
  const around = 2 * Math.PI * radius;
  const level = load > 0.9 ? 'high' : load > 0.6 ? 'middle' : 'low';
  return (
    <g aria-hidden="true" transform={`rotate(-90 ${n(x)} ${n(y)})`}>
      <circle className="jp-ExoLab-loadTrack" cx={n(x)} cy={n(y)} r={n(radius)} />
      <circle
        className={`jp-ExoLab-load jp-mod-${level}`}
        cx={n(x)}
        cy={n(y)}
        r={n(radius)}
        strokeDasharray={`${n(around * load)} ${n(around)}`}
      />
    </g>
  );
}

/** Lights up during [from, to) of each turn. Left out where motion is not wanted. */
function Blink(props: { share: readonly [number, number] }): React.ReactElement {
  const [from, to] = props.share;
  const step = 0.0001; // times must rise
  const times = [0, Math.max(step, from), Math.max(2 * step, from + step), Math.max(3 * step, to), 1];
  for (let i = 1; i < times.length; i += 1) {
    times[i] = Math.min(1, Math.max(times[i], times[i - 1]));
  }
  return (
    <animate
      attributeName="opacity"
      values="0.15;0.15;1;1;0.15"
      keyTimes={times.map(time => time.toFixed(4)).join(';')}
      dur={`${TURN_S}s`}
      repeatCount="indefinite"
    />
  );
}

function short(text: string, characters: number): string {
  return text.length <= characters ? text : `${text.slice(0, characters - 1)}\u2026`;
}
