/** One device's layers in the strip, with embedding and head on the ends. A cell's height is its layer's bytes. */

import * as React from 'react';

import { Mark, n } from './palette';
import { DeviceBox, Pill } from './parts';
import { END, HEAT, HEIGHT, Segment, TOP } from './strip';
import { Trans } from './text';
import { ModelConfig } from './types';
import { showBytes, showLayers, showSeconds } from './units';

export function SegmentCells(props: {
  segment: Segment;
  mark: Mark;
  config: ModelConfig;
  layerWidth: number;
  name: string;
  emulated: boolean;
  time: number | null;
  heat: number | null;
  trans: Trans;
}): React.ReactElement {
  const { segment, mark, config, layerWidth, name, emulated, trans } = props;
  const most = Math.max(1, ...config.layer_bytes);
  const bottom = TOP + HEIGHT;
  const layers = Array.from({ length: segment.end - segment.start }, (_, k) => segment.start + k);
  const heights = layers.map(
    layer => HEIGHT * (config.layer_bytes.length > 0 ? Math.max(0.25, config.layer_bytes[layer] / most) : 1)
  );
  const middle = segment.x + segment.width / 2;
  const low = Math.min(HEIGHT, ...heights);
  const label = segment.empty ? '' : fit(name, segment.width + 6);
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
        <g key={layer}>
          <title>
            {[
              trans.__('layer %1 on %2', layer, name),
              config.layer_bytes[layer] === undefined ? '' : showBytes(config.layer_bytes[layer]),
              props.time === null
                ? ''
                : trans.__('%1 a token, measured over its stage', showSeconds(props.time))
            ]
              .filter(text => text !== '')
              .join(' \u00b7 ')}
          </title>
          <DeviceBox
            mark={mark}
            x={segment.x + k * layerWidth}
            y={bottom - heights[k]}
            width={Math.max(0.5, layerWidth - (layerWidth > 4 ? 1 : 0))}
            height={heights[k]}
            emulated={emulated}
          />
          {props.heat !== null && (
            <rect
              className="jp-ExoLab-heat"
              x={n(segment.x + k * layerWidth)}
              y={bottom + 4}
              width={n(Math.max(0.5, layerWidth - (layerWidth > 4 ? 1 : 0)))}
              height={n(HEAT * Math.max(0.12, props.heat))}
              fillOpacity={(0.25 + 0.75 * props.heat).toFixed(2)}
            />
          )}
        </g>
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
        y={bottom + (props.heat === null ? 0 : HEAT + 4) + 15}
        textAnchor="middle"
        aria-hidden="true"
      >
        {label}
      </text>
      {span.length * 6.2 <= Math.max(50, segment.width + 10) && (
        <text
          className="jp-ExoLab-segmentSpan"
          x={n(middle)}
          y={bottom + (props.heat === null ? 0 : HEAT + 4) + 29}
          textAnchor="middle"
          aria-hidden="true"
        >
          {span}
        </text>
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
