/** One device's layers in the strip, with embedding and head on the ends. A cell's height is its layer's bytes. */

import * as React from 'react';

import { Mark, n } from './palette';
import { DeviceBox, Pill } from './parts';
import { END, HEAT, HEIGHT, Segment, TOP } from './strip';
import { Trans } from './text';
import { ModelConfig } from './types';
import { showBytes, showLayers, showSeconds } from './units';

/** What a layer of a device takes for a token: its stage's measured time, shared evenly by layers [start, end). */
export interface LayerTime {
  readonly start: number;
  readonly end: number;
  readonly seconds: number;
}

export function SegmentCells(props: {
  segment: Segment;
  mark: Mark;
  config: ModelConfig;
  layerWidth: number;
  name: string;
  emulated: boolean;
  /** Said and drawn of the layers that were measured on this device, not of those that a draft moves there. */
  time: LayerTime | null;
  /** Seconds of the slowest layer; null where nothing was measured, and there is no band. */
  hottest: number | null;
  trans: Trans;
}): React.ReactElement {
  const { segment, mark, config, layerWidth, name, emulated, hottest, trans } = props;
  const most = Math.max(1, ...config.layer_bytes);
  const bottom = TOP + HEIGHT;
  const layers = Array.from({ length: segment.end - segment.start }, (_, k) => segment.start + k);
  const heights = layers.map(
    layer => HEIGHT * (config.layer_bytes.length > 0 ? Math.max(0.25, config.layer_bytes[layer] / most) : 1)
  );
  const middle = segment.x + segment.width / 2;
  const low = Math.min(HEIGHT, ...heights);
  const label = segment.empty ? '' : fit(name, segment.width + 6);
  const secondsOf = (layer: number): number | null =>
    props.time !== null && layer >= props.time.start && layer < props.time.end ? props.time.seconds : null;
  const band = hottest === null ? 0 : HEAT + 4;
  const span = segment.empty ? '' : showLayers(segment.start, segment.end);
  return (
    <g className={segment.empty ? 'jp-ExoLab-segment jp-mod-empty' : 'jp-ExoLab-segment'}>
      {segment.embeddingX !== null && (
        <EndCell x={segment.embeddingX} mark={mark} emulated={emulated} text={trans.__('emb')}>
          {trans.__('embedding on %1, %2', name, showBytes(config.embedding_bytes))}
        </EndCell>
      )}
      {segment.empty && (
        <rect
          className="jp-ExoLab-stub"
          x={n(segment.x)}
          y={TOP}
          width={n(segment.width)}
          height={HEIGHT}
          rx={3}
        >
          <title>{trans.__('%1 holds no layers: drag a boundary to take it in', name)}</title>
        </rect>
      )}
      {layers.map((layer, k) => (
        <Cell
          key={layer}
          layer={layer}
          bytes={config.layer_bytes[layer]}
          seconds={secondsOf(layer)}
          hottest={hottest}
          x={segment.x + k * layerWidth}
          width={Math.max(0.5, layerWidth - (layerWidth > 4 ? 1 : 0))}
          height={heights[k]}
          mark={mark}
          name={name}
          emulated={emulated}
          trans={trans}
        />
      ))}
      {(segment.empty || segment.width >= 20) && (
        <Pill mark={mark} x={middle} y={segment.empty ? TOP + HEIGHT / 2 : bottom - low / 2} />
      )}
      {segment.headX !== null && (
        <EndCell x={segment.headX} mark={mark} emulated={emulated} text={trans.__('head')}>
          {trans.__('head on %1, %2', name, showBytes(config.head_bytes))}
        </EndCell>
      )}
      <text
        className="jp-ExoLab-segmentName"
        x={n(middle)}
        y={bottom + band + 15}
        textAnchor="middle"
        aria-hidden="true"
      >
        {label}
      </text>
      {span.length * 6.2 <= Math.max(50, segment.width + 10) && (
        <text
          className="jp-ExoLab-segmentSpan"
          x={n(middle)}
          y={bottom + band + 29}
          textAnchor="middle"
          aria-hidden="true"
        >
          {span}
        </text>
      )}
    </g>
  );
}

/** One layer: its bytes as height, and the time that was measured for it in the band below. */
function Cell(props: {
  layer: number;
  bytes: number | undefined;
  seconds: number | null;
  hottest: number | null;
  x: number;
  width: number;
  height: number;
  mark: Mark;
  name: string;
  emulated: boolean;
  trans: Trans;
}): React.ReactElement {
  const { layer, bytes, seconds, hottest, x, width, height, mark, name, emulated, trans } = props;
  const bottom = TOP + HEIGHT;
  const heat = hottest === null || seconds === null ? null : seconds / hottest;
  const facts = [
    trans.__('layer %1 on %2', layer, name),
    bytes === undefined ? '' : showBytes(bytes),
    seconds === null ? '' : trans.__('%1 a token, measured over its stage', showSeconds(seconds))
  ];
  return (
    <g>
      <title>{facts.filter(text => text !== '').join(' \u00b7 ')}</title>
      <DeviceBox mark={mark} x={x} y={bottom - height} width={width} height={height} emulated={emulated} />
      {heat !== null && (
        <rect
          className="jp-ExoLab-heat"
          x={n(x)}
          y={bottom + 4}
          width={n(width)}
          height={n(HEAT * Math.max(0.12, heat))}
          fillOpacity={(0.25 + 0.75 * heat).toFixed(2)}
        />
      )}
    </g>
  );
}

function EndCell(props: {
  x: number;
  mark: Mark;
  emulated: boolean;
  text: string;
  children: React.ReactNode;
}): React.ReactElement {
  const { x, mark, text } = props;
  const middle = TOP + HEIGHT / 2;
  return (
    <g>
      <title>{props.children}</title>
      <DeviceBox
        mark={mark}
        x={x}
        y={TOP + 6}
        width={END}
        height={HEIGHT - 6}
        radius={9}
        emulated={props.emulated}
      />
      <rect
        x={n(x + 2)}
        y={middle - 6}
        width={END - 4}
        height={16}
        rx={3}
        fill={mark.colour}
        aria-hidden="true"
      />
      <text
        x={n(x + END / 2)}
        y={middle + 6}
        textAnchor="middle"
        className="jp-ExoLab-endText"
        style={{ fill: mark.ink }}
        aria-hidden="true"
      >
        {text}
      </text>
    </g>
  );
}

function fit(text: string, room: number): string {
  const characters = Math.floor(room / 6.8);
  if (text.length <= characters) {
    return text;
  }
  return characters >= 4 ? `${text.slice(0, characters - 1)}\u2026` : '';
}
