/**
 * Time of each layer and token: stages as bands of layers, tokens from left to right; as exo_lab/front/widgets/heat_svg.py.
 *
 * Kinds of time differ in their row and in their colour; how much it was is how strong the colour is.
 */

import * as React from 'react';

import { Heat, meansOf, scaleOf, Split } from './heat';
import { Mark, n } from './palette';
import { clean, Trans } from './text';
import { showSeconds } from './units';

export const TOKENS = 160; // the latest so many
const COMPUTE = '#0072B2';
const QUEUE = '#E69F00';
const WIRE = '#009E73';
const LEFT = 150;
const TOP = 8;
const QUEUE_H = 9;
const WIRE_H = 16;
const GAP = 5;
const FAINTEST = 0.06;
const TICK_W = 28; // of a number under the tokens
const LEGEND_W = 640; // for its three parts beside each other

/** One stage as it is drawn. `holds`: its layers in words. */
export interface Band {
  readonly mark: Mark;
  readonly name: string;
  readonly holds: string;
  readonly layers: number;
}

interface PictureProps {
  readonly heat: Heat;
  readonly bands: ReadonlyArray<Band>;
  readonly width: number;
  readonly trans: Trans;
}

export const HeatPicture = React.forwardRef<SVGSVGElement, PictureProps>(
  function HeatPicture(props, ref): React.ReactElement {
    const { bands, trans } = props;
    const width = Math.max(props.width, 360);
    const splits = props.heat.splits.slice(-TOKENS);
    const scale = scaleOf(
      splits,
      bands.map(band => band.layers)
    );
    const step = Math.min(16, (width - LEFT - 4) / splits.length);
    const layerHeight = Math.max(2, Math.min(8, 190 / bands.reduce((total, band) => total + band.layers, 0)));
    const tops: number[] = [];
    let floor = TOP;
    for (const band of bands) {
      tops.push(floor);
      floor += bandHeight(band, layerHeight) + 1 + QUEUE_H + GAP;
    }
    const end = floor + WIRE_H;
    const every = 10 * Math.ceil(TICK_W / (10 * step));
    const stacked = width < LEGEND_W;
    const whole = n(end + 46 + (stacked ? 32 : 0));
    return (
      <svg
        ref={ref}
        className="jp-ExoLab-heatmap"
        viewBox={`0 0 ${width} ${whole}`}
        width={width}
        height={whole}
        role="img"
        aria-label={sentence(props)}
      >
        {bands.map((band, k) => {
          const height = bandHeight(band, layerHeight);
          return (
            <g key={k}>
              <text x={4} y={n(tops[k] + 11)} fontWeight={600}>
                {clean(`${band.mark.number} ${band.name}`, 22)}
              </text>
              <text x={4} y={n(tops[k] + 25)} className="jp-ExoLab-small">
                {band.holds}
              </text>
              <Row
                values={splits.map(split => split.compute[k] / band.layers)}
                most={scale.layer}
                y={tops[k]}
                height={height}
                step={step}
                colour={COMPUTE}
              />
              {layerHeight >= 4 && (
                <path
                  className="jp-ExoLab-layerLines"
                  d={Array.from(
                    { length: band.layers - 1 },
                    (_, i) =>
                      `M${LEFT} ${n(tops[k] + (height * (i + 1)) / band.layers)}h${n(step * splits.length)}`
                  ).join('')}
                />
              )}
              <Row
                values={splits.map(split => split.queue[k])}
                most={scale.queue}
                y={tops[k] + height + 1}
                height={QUEUE_H}
                step={step}
                colour={QUEUE}
              />
            </g>
          );
        })}
        <text x={4} y={n(floor + 12)} fontWeight={600}>
          {trans.__('between the stages')}
        </text>
        <Row
          values={splits.map(split => split.wire)}
          most={scale.wire}
          y={floor}
          height={WIRE_H}
          step={step}
          colour={WIRE}
        />
        <text x={LEFT - 8} y={n(end + 13)} textAnchor="end" className="jp-ExoLab-small">
          {trans.__('token')}
        </text>
        {splits.map(
          (split, i) =>
            split.index % every === 0 &&
            LEFT + step * (i + 0.5) + TICK_W / 2 <= width && (
              <text
                key={split.index}
                x={n(LEFT + step * (i + 0.5))}
                y={n(end + 13)}
                textAnchor="middle"
                className="jp-ExoLab-small"
              >
                {split.index}
              </text>
            )
        )}
        {splits.map((split, i) => (
          <rect
            key={split.index}
            x={n(LEFT + step * i)}
            y={TOP}
            width={step.toFixed(2)}
            height={n(end - TOP)}
            fillOpacity={0}
          >
            <title>{tip(split, bands, trans)}</title>
          </rect>
        ))}
        {[
          [COMPUTE, trans.__('computing a layer'), scale.layer] as const,
          [QUEUE, trans.__('node beyond it'), scale.queue] as const,
          [WIRE, trans.__('between stages'), scale.wire] as const
        ].map(([colour, what, most], k) => {
          const x = stacked ? 4 : 4 + (k * (width - 8)) / 3;
          const y = end + 26 + (stacked ? 16 * k : 0);
          return (
            <g key={colour}>
              {[0, 1, 2, 3, 4].map(i => (
                <rect
                  key={i}
                  x={n(x + 8 * i)}
                  y={n(y)}
                  width={8}
                  height={12}
                  fill={colour}
                  fillOpacity={FAINTEST + ((1 - FAINTEST) * i) / 4}
                />
              ))}
              <text x={n(x + 46)} y={n(y + 10)} className="jp-ExoLab-small">
                {trans.__('%1: 0 to %2', what, showSeconds(most))}
              </text>
            </g>
          );
        })}
      </svg>
    );
  }
);

interface RowProps {
  readonly values: ReadonlyArray<number>;
  readonly most: number;
  readonly y: number;
  readonly height: number;
  readonly step: number;
  readonly colour: string;
}

/** One cell a token; neighbours of one strength are one rectangle. */
function Row({ values, most, y, height, step, colour }: RowProps): React.ReactElement {
  const strengths = values.map(value => (FAINTEST + (1 - FAINTEST) * Math.min(1, value / most)).toFixed(2));
  const starts = strengths.flatMap((strength, i) => (i === 0 || strength !== strengths[i - 1] ? [i] : []));
  return (
    <g fill={colour} aria-hidden="true">
      {starts.map((start, i) => (
        <rect
          key={start}
          x={n(LEFT + step * start)}
          y={n(y)}
          width={(step * ((starts[i + 1] ?? values.length) - start)).toFixed(2)}
          height={n(height)}
          fillOpacity={strengths[start]}
        />
      ))}
    </g>
  );
}

function bandHeight(band: Band, layerHeight: number): number {
  return Math.max(30, layerHeight * band.layers);
}

/** The means in a sentence. */
function sentence({ heat, bands, trans }: PictureProps): string {
  const means = meansOf(heat);
  const stages = bands.map((band, k) =>
    trans.__(
      '%1 computes %2 and holds it %3 longer',
      band.name,
      showSeconds(means.compute[k]),
      showSeconds(means.queue[k])
    )
  );
  return trans.__(
    'mean time of a token over %1 tokens: %2; between the stages %3',
    heat.splits.length,
    stages.join('; '),
    showSeconds(means.wire)
  );
}

function tip(split: Split, bands: ReadonlyArray<Band>, trans: Trans): string {
  const token = JSON.stringify(clean(split.text, 40));
  return [
    trans.__('token %1 %2: %3', split.index, token, showSeconds(split.total)),
    ...bands.map((band, k) =>
      trans.__(
        '%1: computing %2, beyond it %3',
        band.name,
        showSeconds(split.compute[k]),
        showSeconds(split.queue[k])
      )
    ),
    trans.__('between the stages: %1', showSeconds(split.wire))
  ].join('\n');
}
