/** The lines between devices: the ring's hops with traffic on them, and other links. */

import * as React from 'react';

import { n } from './palette';
import { curve, Hop, Place } from './ring';
import { cleanName, Trans } from './text';
import { linkWords } from './topologyWords';
import { Link } from './types';

const ROOM = 84; // pixels that a line must have for a label; else it is in the tooltip and in the table

export function HopLine(props: {
  hop: Hop;
  bend: number;
  running: boolean;
  label: boolean;
  trans: Trans;
}): React.ReactElement {
  const { hop, bend, running, trans } = props;
  const drawn = curve(hop.from, hop.to, bend);
  const classes = ['jp-ExoLab-hop'];
  if (running) {
    classes.push('jp-mod-running');
  }
  if (hop.back) {
    classes.push('jp-mod-back');
  }
  const tip = `${cleanName(hop.from.node.device.name)} \u2192 ${cleanName(hop.to.node.device.name)}`;
  const words = hop.link === null ? [] : linkWords(hop.link, trans);
  return (
    <g>
      <title>{[tip, ...words].join(' \u00b7 ')}</title>
      <path className={classes.join(' ')} d={drawn.path} />
      <Arrow path={drawn.path} />
      {props.label && drawn.length > ROOM && words.length > 0 && (
        <LinkLabel x={drawn.labelX} y={drawn.labelY} words={words} />
      )}
    </g>
  );
}

/** An arrow head at a curve's end, drawn as a path: markers need ids, which clash between outputs. */
function Arrow(props: { path: string }): React.ReactElement {
  const numbers = (props.path.match(/-?[0-9.]+/g) ?? []).map(Number);
  const [, , cx, cy, x, y] = numbers;
  const distance = Math.hypot(x - cx, y - cy) || 1;
  const [ux, uy] = [(x - cx) / distance, (y - cy) / distance];
  const size = 7;
  const at = (along: number, across: number): string =>
    `${n(x + ux * along - uy * across)} ${n(y + uy * along + ux * across)}`;
  return (
    <path
      className="jp-ExoLab-arrow"
      d={`M${at(0, 0)}L${at(-size, size * 0.55)}L${at(-size, -size * 0.55)}Z`}
    />
  );
}

export function Wire(props: {
  from: Place;
  to: Place;
  link: Link;
  bend: number;
  trans: Trans;
}): React.ReactElement {
  const drawn = curve(props.from, props.to, props.bend);
  const words = linkWords(props.link, props.trans);
  return (
    <g>
      <title>{words.join(' \u00b7 ')}</title>
      <path className="jp-ExoLab-wire" d={drawn.path} />
      {drawn.length > ROOM && <LinkLabel x={drawn.labelX} y={drawn.labelY} words={words} />}
    </g>
  );
}

function LinkLabel(props: { x: number; y: number; words: ReadonlyArray<string> }): React.ReactElement {
  const { x, y, words } = props;
  return (
    <text className="jp-ExoLab-linkLabel" textAnchor="middle" aria-hidden="true">
      {words.map((word, i) => (
        <tspan key={i} x={n(x)} y={n(y + 4 + 12 * (i - (words.length - 1) / 2))}>
          {word}
        </tspan>
      ))}
    </text>
  );
}
