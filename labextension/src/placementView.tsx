/**
 * Placement and tuning: one strip of all layers, boundaries that can be moved, and what the kernel says of it.
 *
 * The strip is drawn from the draft; whether a draft can be, and what it would do, the kernel says (`Tuning`). A cell's
 * height is its layer's bytes; the band under it is measured time, where there is any.
 */

import * as React from 'react';

import { boundary, Draft, ranges, reach, sameLayers, shardBytes } from './draft';
import { nameOf, stageSeconds, State } from './model';
import { Mark, mark as markOf, n } from './palette';
import { Announcement, DeviceBox, Pill, useSignal, useWidth } from './parts';
import { FiguresTable, MemoryTable } from './placementTables';
import { END, nearest, Segment, strip } from './strip';
import { clean, cleanName, Trans } from './text';
import { Tuning } from './tuning';
import { ModelConfig } from './types';
import { showBytes, showLayers, showSeconds } from './units';

const TOP = 20; // room for the handles' knobs
const HEIGHT = 64;
const HEAT = 8; // height of the band of measured times
const BIG_STEP = 5; // layers, for Page Up and Page Down

export interface PlacementProps {
  readonly tuning: Tuning;
  readonly state: State;
  readonly trans: Trans;
}

export function PlacementView(props: PlacementProps): React.ReactElement {
  const { tuning, state, trans } = props;
  useSignal(tuning.changed);
  const [ref, width] = useWidth(640);
  const loaded = tuning.chosen;
  const { draft, base, verdict, refusal, announcement, applying } = tuning.state;
  if (loaded === null || draft === null || base === null) {
    return (
      <section className="jp-ExoLab-placement" aria-label={trans.__('Placement of layers')}>
        <p className="jp-ExoLab-hint">{trans.__('No model is loaded. Load one with %exo load.')}</p>
      </section>
    );
  }
  const same = sameLayers(draft, base);
  const fits = verdict?.kind !== 'refused';
  const reason = refusal !== '' ? refusal : verdict?.kind === 'refused' ? verdict.reason : '';
  return (
    <section className="jp-ExoLab-placement" aria-label={trans.__('Placement of layers')}>
      <Head tuning={tuning} state={state} trans={trans} />
      <div ref={ref} className="jp-ExoLab-canvas">
        <StripPicture
          tuning={tuning}
          draft={draft}
          config={loaded.config}
          state={state}
          width={width}
          refused={!fits}
          trans={trans}
        />
      </div>
      {reason !== '' && (
        <div className="jp-ExoLab-refusal">
          <b>{trans.__('Refused.')}</b> {clean(reason)}
        </div>
      )}
      <Announcement text={announcement !== '' ? clean(announcement) : ''} />
      <FiguresTable tuning={tuning} state={state} trans={trans} />
      <div className="jp-ExoLab-buttons">
        <button
          type="button"
          className="jp-ExoLab-button jp-mod-accept"
          disabled={same || !fits || applying}
          onClick={() => void tuning.apply()}
        >
          {applying ? trans.__('Moving layers\u2026') : trans.__('Apply')}
        </button>
        <button
          type="button"
          className="jp-ExoLab-button"
          disabled={same || applying}
          onClick={() => tuning.reset()}
        >
          {trans.__('Discard')}
        </button>
        <button
          type="button"
          className="jp-ExoLab-button"
          disabled={tuning.undoable === null || applying}
          onClick={() => void tuning.undo()}
        >
          {trans.__('Undo the last change')}
        </button>
      </div>
      {applying && <LoadingRows state={state} />}
      <MemoryTable tuning={tuning} state={state} trans={trans} />
      <Remarks why={loaded.plan.why} notes={verdict?.prediction?.notes ?? []} trans={trans} />
    </section>
  );
}

/** Which model, and who shares out the layers. */
function Head(props: PlacementProps): React.ReactElement {
  const { tuning, state, trans } = props;
  const loaded = tuning.chosen;
  const models = state.status?.models ?? [];
  const strategy = tuning.state.draft?.strategy ?? '';
  return (
    <div className="jp-ExoLab-placementHead">
      {models.length > 1 ? (
        <label>
          {trans.__('Model')}{' '}
          <select value={loaded?.plan.model} onChange={event => tuning.choose(event.target.value)}>
            {models.map(one => (
              <option key={one.plan.model} value={one.plan.model}>
                {cleanName(one.plan.model)}
              </option>
            ))}
          </select>
        </label>
      ) : (
        <b>{cleanName(loaded?.plan.model ?? '')}</b>
      )}
      <span className="jp-ExoLab-faint">
        {trans.__('%1 layers', loaded?.plan.n_layers ?? 0)}
        {loaded?.config.quantisation ? ` \u00b7 ${clean(loaded.config.quantisation, 20)}` : ''}
        {` \u00b7 ${trans.__('plan %1', loaded?.plan.epoch ?? 0)}`}
      </span>
      {state.strategies.length > 0 && (
        <label className="jp-ExoLab-strategy">
          {trans.__('Strategy')}{' '}
          <select
            value={state.strategies.includes(strategy) ? strategy : ''}
            disabled={tuning.state.applying}
            onChange={event => {
              if (event.target.value !== '') {
                void tuning.useStrategy(event.target.value);
              }
            }}
          >
            {!state.strategies.includes(strategy) && <option value="">{trans.__('by hand')}</option>}
            {state.strategies.map(name => (
              <option key={name} value={name}>
                {name}
              </option>
            ))}
          </select>
        </label>
      )}
    </div>
  );
}

interface StripProps {
  readonly tuning: Tuning;
  readonly draft: Draft;
  readonly config: ModelConfig;
  readonly state: State;
  readonly width: number;
  readonly refused: boolean;
  readonly trans: Trans;
}

function StripPicture(props: StripProps): React.ReactElement {
  const { tuning, draft, config, state, width, refused, trans } = props;
  const drawn = strip(draft, width);
  const times = stageSeconds(state);
  const perLayer = drawn.segments.map(segment => {
    const time = times.get(segment.device);
    // What was measured was measured on the loaded plan.
    const held = tuning.chosen?.plan.shards[tuning.chosen.plan.devices.indexOf(segment.device)];
    return time === undefined || held === undefined ? null : time / (held.end - held.start);
  });
  const hottest = Math.max(0, ...perLayer.map(time => time ?? 0));
  const measured = hottest > 0;
  const height = TOP + HEIGHT + (measured ? HEAT + 4 : 0) + 36;
  return (
    <svg
      className={refused ? 'jp-ExoLab-strip jp-mod-refused' : 'jp-ExoLab-strip'}
      viewBox={`0 0 ${width} ${height}`}
      width={width}
      height={height}
      role="group"
      aria-label={stripSentence(draft, state, trans)}
    >
      {drawn.segments.map((segment, i) => (
        <SegmentCells
          key={segment.device}
          segment={segment}
          mark={state.marks.get(segment.device) ?? markOf(i)}
          config={config}
          layerWidth={drawn.layerWidth}
          name={nameOf(state, segment.device)}
          emulated={isEmulated(state, segment.device)}
          time={perLayer[i]}
          heat={measured ? (perLayer[i] ?? 0) / hottest : null}
          trans={trans}
        />
      ))}
      {drawn.handles.map((x, i) => (
        <Handle
          key={`${draft.devices[i]}|${draft.devices[i + 1]}`}
          tuning={tuning}
          draft={draft}
          config={config}
          index={i}
          x={x}
          width={width}
          state={state}
          trans={trans}
        />
      ))}
    </svg>
  );
}

function SegmentCells(props: {
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
  const heights = layers.map(layer => HEIGHT * (config.layer_bytes.length > 0 ? Math.max(0.25, config.layer_bytes[layer] / most) : 1));
  const middle = segment.x + segment.width / 2;
  const low = Math.min(HEIGHT, ...heights);
  const label = fit(name, segment.empty ? 60 : segment.width + 6);
  const span = segment.empty ? trans.__('no layers') : showLayers(segment.start, segment.end);
  return (
    <g className={segment.empty ? 'jp-ExoLab-segment jp-mod-empty' : 'jp-ExoLab-segment'}>
      {segment.embeddingX !== null && (
        <EndCell x={segment.embeddingX} mark={mark} emulated={emulated} text={trans.__('emb')}>
          {trans.__('embedding on %1, %2', name, showBytes(config.embedding_bytes))}
        </EndCell>
      )}
      {segment.empty && (
        <rect className="jp-ExoLab-stub" x={n(segment.x)} y={TOP} width={n(segment.width)} height={HEIGHT} rx={3}>
          <title>{trans.__('%1 holds no layers: drag a boundary to take it in', name)}</title>
        </rect>
      )}
      {layers.map((layer, k) => (
        <g key={layer}>
          <title>
            {[
              trans.__('layer %1 on %2', layer, name),
              config.layer_bytes[layer] === undefined ? '' : showBytes(config.layer_bytes[layer]),
              props.time === null ? '' : trans.__('%1 a token, measured over its stage', showSeconds(props.time))
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
      <DeviceBox mark={mark} x={x} y={TOP + 6} width={END} height={HEIGHT - 6} radius={9} emulated={props.emulated} />
      <rect x={n(x + 2)} y={middle - 6} width={END - 4} height={16} rx={3} fill={mark.colour} aria-hidden="true" />
      <text x={n(x + END / 2)} y={middle + 6} textAnchor="middle" className="jp-ExoLab-endText" style={{ fill: mark.ink }} aria-hidden="true">
        {text}
      </text>
    </g>
  );
}

/** A boundary: a slider over the layers between its neighbours. */
function Handle(props: {
  tuning: Tuning;
  draft: Draft;
  config: ModelConfig;
  index: number;
  x: number;
  width: number;
  state: State;
  trans: Trans;
}): React.ReactElement {
  const { tuning, draft, config, index, x, width, state, trans } = props;
  const [dragging, setDragging] = React.useState(false);
  const grip = React.useRef(0); // where in the handle it was taken
  const [least, most] = reach(draft, index);
  const at = boundary(draft, index);
  const left = nameOf(state, draft.devices[index]);
  const right = nameOf(state, draft.devices[index + 1]);

  const localX = (event: React.PointerEvent<SVGGElement>): number => {
    const box = event.currentTarget.ownerSVGElement?.getBoundingClientRect();
    return box === undefined || box.width === 0 ? event.clientX : ((event.clientX - box.left) * width) / box.width;
  };
  const onPointerDown = (event: React.PointerEvent<SVGGElement>): void => {
    if (event.button !== 0) {
      return;
    }
    event.preventDefault();
    event.currentTarget.focus();
    event.currentTarget.setPointerCapture?.(event.pointerId);
    grip.current = localX(event) - x;
    setDragging(true);
  };
  const onPointerMove = (event: React.PointerEvent<SVGGElement>): void => {
    if (dragging) {
      tuning.move(index, nearest(draft, index, localX(event) - grip.current, width));
    }
  };
  const drop = (): void => {
    if (dragging) {
      setDragging(false);
      void tuning.release();
    }
  };
  const onKeyDown = (event: React.KeyboardEvent): void => {
    const to = {
      ArrowLeft: at - 1,
      ArrowDown: at - 1,
      ArrowRight: at + 1,
      ArrowUp: at + 1,
      PageDown: at - BIG_STEP,
      PageUp: at + BIG_STEP,
      Home: least,
      End: most
    }[event.key];
    if (to !== undefined) {
      event.preventDefault();
      event.stopPropagation();
      tuning.move(index, to);
    } else if (event.key === 'Escape') {
      setDragging(false);
      tuning.abandon();
    }
  };
  return (
    <g
      className={dragging ? 'jp-ExoLab-handle jp-mod-dragging' : 'jp-ExoLab-handle'}
      role="slider"
      tabIndex={0}
      aria-label={trans.__('Boundary between %1 and %2', left, right)}
      aria-orientation="horizontal"
      aria-valuemin={least}
      aria-valuemax={most}
      aria-valuenow={at}
      aria-valuetext={handleText(draft, config, index, state, trans)}
      aria-disabled={tuning.state.applying}
      onPointerDown={onPointerDown}
      onPointerMove={onPointerMove}
      onPointerUp={drop}
      onPointerCancel={() => {
        setDragging(false);
        tuning.abandon();
      }}
      onKeyDown={onKeyDown}
      onKeyUp={event => {
        if (event.key !== 'Tab' && event.key !== 'Shift') {
          void tuning.release();
        }
      }}
      onBlur={() => void tuning.release()}
    >
      <rect className="jp-ExoLab-handleArea" x={n(x - 12)} y={0} width={24} height={TOP + HEIGHT + 4} />
      <path className="jp-ExoLab-handleLine" d={`M${n(x)} ${TOP - 4}v${HEIGHT + 8}`} />
      <path
        className="jp-ExoLab-knob"
        d={`M${n(x - 7)} 3h14a2 2 0 0 1 2 2v7l-9 7l-9 -7v-7a2 2 0 0 1 2 -2z`}
        aria-hidden="true"
      />
    </g>
  );
}

/** What a boundary means, as it is said aloud: "kernel-1 14 layers, 36 MiB; kernel-2 10 layers, 22 MiB". */
export function handleText(draft: Draft, config: ModelConfig, index: number, state: State, trans: Trans): string {
  const spans = ranges(draft);
  const side = (i: number): string => {
    const [start, end] = spans[i];
    const name = nameOf(state, draft.devices[i]);
    if (start === end) {
      return trans.__('%1 no layers', name);
    }
    const count = trans._n('%1 layer', '%1 layers', end - start);
    return `${name} ${count}, ${showBytes(shardBytes(config, start, end))}`;
  };
  return `${side(index)}; ${side(index + 1)}`;
}

function stripSentence(draft: Draft, state: State, trans: Trans): string {
  const shares = ranges(draft).map(([start, end], i) => {
    const name = nameOf(state, draft.devices[i]);
    return start === end ? trans.__('%1 holds none', name) : trans.__('%1 holds %2', name, showLayers(start, end));
  });
  const total = draft.layers.reduce((sum, count) => sum + count, 0);
  return `${trans._n('%1 layer', '%1 layers', total)}: ${shares.join('; ')}`;
}

function LoadingRows(props: { state: State }): React.ReactElement {
  return (
    <div className="jp-ExoLab-loading">
      {Object.entries(props.state.loading).map(([node, { done, total, what }]) => (
        <div key={node}>
          <span>{cleanName(node)}</span>
          <progress max={total > 0 ? total : undefined} value={total > 0 ? done : undefined} aria-label={cleanName(node)} />
          <span className="jp-ExoLab-faint">{clean(what, 60)}</span>
        </div>
      ))}
    </div>
  );
}

function Remarks(props: {
  why: ReadonlyArray<string>;
  notes: ReadonlyArray<string>;
  trans: Trans;
}): React.ReactElement | null {
  const all = [...props.why, ...props.notes];
  return all.length === 0 ? null : (
    <details className="jp-ExoLab-remarks">
      <summary>{props.trans.__('Why it is so')}</summary>
      <ul>
        {all.map((text, i) => (
          <li key={i}>{clean(text)}</li>
        ))}
      </ul>
    </details>
  );
}

function isEmulated(state: State, device: string): boolean {
  return (state.status?.nodes.find(node => node.device.id === device)?.device.emulated ?? '') !== '';
}

function fit(text: string, room: number): string {
  const characters = Math.floor(room / 6.8);
  if (text.length <= characters) {
    return text;
  }
  return characters >= 4 ? `${text.slice(0, characters - 1)}\u2026` : '';
}
