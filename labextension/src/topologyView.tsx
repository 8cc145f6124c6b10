/**
 * The topology: devices, the links between them, who holds what, and the token on its way round the ring.
 *
 * Pure in its state. Size is memory; the arc round a device is its load, and the figure beside it says the same; its
 * colour, hatching and number are those that it has everywhere.
 */

import * as React from 'react';

import { isGenerating, Notice, shownModel, stageSeconds, State } from './model';
import { Mark, mark as markOf, hatch, n } from './palette';
import { Origin, Swatch, useReducedMotion, useWidth } from './parts';
import { curve, Hop, hops, picture, Place, spareLinks, turn } from './ring';
import { clean, cleanName, Trans } from './text';
import { Link, Plan } from './types';
import { showBandwidth, showBytes, showLayers, showSeconds } from './units';

const TURN_S = 1.6; // one turn of the ring as it is shown; a real one is faster than an eye

export interface TopologyProps {
  readonly state: State;
  readonly trans: Trans;
  /** Shown beside each device; the loaded model's plan if not given. */
  readonly plan?: Plan | null;
}

export function TopologyView(props: TopologyProps): React.ReactElement {
  const { state, trans } = props;
  const plan = props.plan === undefined ? (shownModel(state)?.plan ?? null) : props.plan;
  const [ref, width] = useWidth(520);
  const [selected, select] = React.useState<string | null>(null);
  const [asTable, setAsTable] = React.useState(false);
  const shown = picture(state, plan, width);
  const chosen = shown.places.find(place => place.node.device.id === selected) ?? null;
  return (
    <section className="jp-ExoLab-topology" aria-label={trans.__('Devices and links')}>
      <div ref={ref} className="jp-ExoLab-canvas">
        {asTable ? (
          <DeviceTable state={state} plan={plan} places={shown.places} trans={trans} />
        ) : (
          <Graph
            state={state}
            plan={plan}
            places={shown.places}
            width={shown.width}
            height={shown.height}
            selected={selected}
            select={select}
            trans={trans}
          />
        )}
      </div>
      <div className="jp-ExoLab-underline">
        <Turn state={state} plan={plan} trans={trans} />
        <button
          type="button"
          className="jp-ExoLab-link"
          aria-pressed={asTable}
          onClick={() => setAsTable(!asTable)}
        >
          {asTable ? trans.__('Show the picture') : trans.__('Show as a table')}
        </button>
      </div>
      {chosen !== null && !asTable && (
        <Card place={chosen} state={state} plan={plan} trans={trans} close={() => select(null)} />
      )}
      <Comings notices={state.notices} trans={trans} />
    </section>
  );
}

interface GraphProps {
  readonly state: State;
  readonly plan: Plan | null;
  readonly places: ReadonlyArray<Place>;
  readonly width: number;
  readonly height: number;
  readonly selected: string | null;
  readonly select: (device: string | null) => void;
  readonly trans: Trans;
}

function Graph(props: GraphProps): React.ReactElement {
  const { state, plan, places, width, height, selected, select, trans } = props;
  const ring = hops(places, plan, state.links);
  const running = isGenerating(state) && state.generation?.epoch === plan?.epoch;
  const lit = useLit(state, plan, running);
  const bend = places.length === 2 ? 30 : places.length === 3 ? 14 : 10;
  const focus = React.useRef<Map<string, SVGGElement>>(new Map());
  const anchor = selected ?? places[0]?.node.device.id ?? null;

  const onKeyDown = (event: React.KeyboardEvent, at: number): void => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (step !== undefined) {
      event.preventDefault();
      const next = places[(at + step + places.length) % places.length].node.device.id;
      select(next);
      focus.current.get(next)?.focus();
    } else if (event.key === 'Enter' || event.key === ' ') {
      event.preventDefault();
      const id = places[at].node.device.id;
      select(selected === id ? null : id);
    } else if (event.key === 'Escape') {
      select(null);
    }
  };

  return (
    <svg
      className="jp-ExoLab-graph"
      viewBox={`0 0 ${width} ${height}`}
      width={width}
      height={height}
      role="group"
      aria-label={describe(state, plan, trans)}
    >
      {spareLinks(places, ring, state.links).map(([a, b, link]) => (
        <Wire key={`${link.a} ${link.b} ${link.kind}`} from={a} to={b} link={link} bend={0} trans={trans} />
      ))}
      {ring.map(hop => (
        <HopLine
          key={`${hop.from.node.device.id}>${hop.to.node.device.id}`}
          hop={hop}
          bend={bend}
          running={running}
          label={!hop.back || places.length !== 2}
          trans={trans}
        />
      ))}
      {places.map((place, i) => (
        <DeviceNode
          key={place.node.device.id}
          place={place}
          mark={state.marks.get(place.node.device.id) ?? markOf(i)}
          plan={plan}
          lit={lit(place)}
          selected={selected === place.node.device.id}
          tabbable={anchor === place.node.device.id}
          click={() => select(selected === place.node.device.id ? null : place.node.device.id)}
          keyDown={event => onKeyDown(event, i)}
          reference={element => {
            if (element === null) {
              focus.current.delete(place.node.device.id);
            } else {
              focus.current.set(place.node.device.id, element);
            }
          }}
          trans={trans}
        />
      ))}
    </svg>
  );
}

interface Lit {
  /** Part of a turn, [from, to); null when nothing runs, or motion is not wanted. */
  readonly share: readonly [number, number] | null;
  readonly on: boolean;
}

/** When each stage is lit: during its share of the turn; without motion, all stages of the running plan are. */
function useLit(state: State, plan: Plan | null, running: boolean): (place: Place) => Lit {
  const still = useReducedMotion();
  // In steps of a twentieth, so that the animation does not start anew with every token.
  const times = stageSeconds(state);
  const total = [...times.values()].reduce((sum, value) => sum + value, 0);
  const coarse = [...times].map(([id, value]) => `${id}:${Math.round((20 * value) / (total || 1))}`).join();
  const shares = React.useMemo(() => {
    const parts = coarse === '' ? [] : coarse.split(',').map(part => part.split(':'));
    const rounded = new Map(parts.map(([id, value]) => [id, Number(value)] as const));
    return plan === null ? [] : turn(plan, rounded);
  }, [plan, coarse]);
  return place => ({
    on: running && place.stage !== null,
    share: running && !still && place.stage !== null ? (shares[place.stage] ?? null) : null
  });
}

function HopLine(props: {
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
      {props.label && words.length > 0 && <LinkLabel x={drawn.labelX} y={drawn.labelY} words={words} />}
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
  return <path className="jp-ExoLab-arrow" d={`M${at(0, 0)}L${at(-size, size * 0.55)}L${at(-size, -size * 0.55)}Z`} />;
}

function Wire(props: { from: Place; to: Place; link: Link; bend: number; trans: Trans }): React.ReactElement {
  const drawn = curve(props.from, props.to, props.bend);
  const words = linkWords(props.link, props.trans);
  return (
    <g>
      <title>{words.join(' \u00b7 ')}</title>
      <path className="jp-ExoLab-wire" d={drawn.path} />
      <LinkLabel x={drawn.labelX} y={drawn.labelY} words={words} />
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

/** Kind, latency, bandwidth; what was not measured is not said. */
function linkWords(link: Link, trans: Trans): string[] {
  const words = [link.kind === 'unknown' ? '' : link.kind];
  if (link.latency_s !== null) {
    words.push(showSeconds(link.latency_s));
  }
  if (link.bandwidth_bytes_per_s !== null) {
    words.push(showBandwidth(link.bandwidth_bytes_per_s));
  }
  if (link.emulated !== '') {
    words.push(trans.__('emulated'));
  }
  return words.filter(word => word !== '');
}

function DeviceNode(props: {
  place: Place;
  mark: Mark;
  plan: Plan | null;
  lit: Lit;
  selected: boolean;
  tabbable: boolean;
  click: () => void;
  keyDown: (event: React.KeyboardEvent) => void;
  reference: (element: SVGGElement | null) => void;
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
  const below = y + radius + 16;
  const lines = deviceLines(place, plan, trans);
  return (
    <g
      className={classes.join(' ')}
      role="button"
      tabIndex={props.tabbable ? 0 : -1}
      aria-pressed={props.selected}
      aria-label={deviceSentence(place, plan, trans)}
      onClick={props.click}
      onKeyDown={props.keyDown}
      ref={props.reference}
    >
      <circle className="jp-ExoLab-halo" cx={n(x)} cy={n(y)} r={n(radius + 9)}>
        {lit.share !== null && <Blink share={lit.share} />}
      </circle>
      <Disc mark={mark} x={x} y={y} radius={radius} emulated={node.device.emulated !== ''} />
      {node.load !== null && node.liveness !== 'lost' && <LoadArc x={x} y={y} radius={radius + 4} load={node.load} />}
      {node.liveness === 'lost' && (
        <path
          className="jp-ExoLab-cross"
          d={`M${n(x - radius)} ${n(y - radius)}L${n(x + radius)} ${n(y + radius)}M${n(x - radius)} ${n(y + radius)}L${n(x + radius)} ${n(y - radius)}`}
        />
      )}
      <circle className="jp-ExoLab-focus" cx={n(x)} cy={n(y)} r={n(radius + 13)} />
      <text className="jp-ExoLab-deviceName" x={n(x)} y={n(below)} textAnchor="middle" aria-hidden="true">
        {short(cleanName(node.device.name), 20)}
      </text>
      {lines.map((line, i) => (
        <text
          key={i}
          className="jp-ExoLab-deviceLine"
          x={n(x)}
          y={n(below + 14 * (i + 1))}
          textAnchor="middle"
          aria-hidden="true"
        >
          {line}
        </text>
      ))}
    </g>
  );
}

function Disc(props: { mark: Mark; x: number; y: number; radius: number; emulated: boolean }): React.ReactElement {
  const { mark, x, y, radius } = props;
  // The hatching of the square inside the circle.
  const side = radius * Math.SQRT2;
  const lines = hatch(mark.hatching, x - side / 2, y - side / 2, side, side);
  return (
    <g aria-hidden="true">
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

/** What stands under a device: how loaded, what it holds, and whatever is out of the ordinary. */
function deviceLines(place: Place, plan: Plan | null, trans: Trans): string[] {
  const { node, stage } = place;
  const lines: string[] = [];
  const load = node.load === null || node.liveness === 'lost' ? '' : trans.__('load %1 %', Math.round(node.load * 100));
  const shard = plan === null || stage === null ? null : plan.shards[stage];
  const holds = shard === null ? '' : trans.__('layers %1', showLayers(shard.start, shard.end));
  lines.push([load, holds].filter(text => text !== '').join(' \u00b7 '));
  const marks = [
    node.is_self ? trans.__('this kernel') : '',
    node.device.emulated === '' ? '' : trans.__('emulated'),
    node.liveness === 'suspect' ? trans.__('does not answer') : '',
    node.liveness === 'lost' ? trans.__('lost') : ''
  ];
  lines.push(marks.filter(text => text !== '').join(', '));
  return lines.filter(line => line !== '');
}

function deviceSentence(place: Place, plan: Plan | null, trans: Trans): string {
  const { node } = place;
  const memory = node.device.memory_bytes > 0 ? trans.__('memory %1', showBytes(node.device.memory_bytes)) : '';
  return [cleanName(node.device.name), memory, ...deviceLines(place, plan, trans)]
    .filter(text => text !== '')
    .join(', ');
}

function describe(state: State, plan: Plan | null, trans: Trans): string {
  const count = state.status?.nodes.length ?? 0;
  const nodes = trans._n('%1 node', '%1 nodes', count);
  if (plan === null) {
    return trans.__('%1; no model is loaded', nodes);
  }
  const names = plan.devices.map(id => {
    const node = state.status?.nodes.find(one => one.device.id === id);
    return node === undefined ? id.slice(0, 8) : cleanName(node.device.name);
  });
  return trans.__('%1; %2 goes round %3', nodes, cleanName(plan.model), names.join(', '));
}

/** How much slower the picture turns than the ring. */
function Turn(props: { state: State; plan: Plan | null; trans: Trans }): React.ReactElement | null {
  const { state, plan, trans } = props;
  const still = useReducedMotion();
  if (!isGenerating(state) || plan === null || state.generation?.epoch !== plan.epoch) {
    return <span />;
  }
  const tokens = state.generation.tokens;
  const last = tokens.length > 1 ? tokens[tokens.length - 1].at_s - tokens[tokens.length - 2].at_s : 0;
  if (still || last <= 0 || last >= TURN_S) {
    return <span>{trans.__('a token is on its way')}</span>;
  }
  return <span>{trans.__('shown %1 times slower than it is', Math.max(1, Math.round(TURN_S / last)))}</span>;
}

function Card(props: {
  place: Place;
  state: State;
  plan: Plan | null;
  trans: Trans;
  close: () => void;
}): React.ReactElement {
  const { place, state, plan, trans } = props;
  const { node } = place;
  const device = node.device;
  const stage = place.stage;
  const shard = plan === null || stage === null ? null : plan.shards[stage];
  const compute = stageSeconds(state).get(device.id);
  const flops = [
    device.flops.fp32 > 0 ? `${device.flops.fp32.toFixed(1)} fp32` : '',
    device.flops.fp16 > 0 ? `${device.flops.fp16.toFixed(1)} fp16` : '',
    device.flops.int8 > 0 ? `${device.flops.int8.toFixed(1)} int8` : ''
  ].filter(text => text !== '');
  const rows: (readonly [string, React.ReactNode])[] = [
    [trans.__('Model'), clean(device.model, 80)],
    [trans.__('Chip'), clean(device.chip, 80)],
    [trans.__('Memory'), memoryText(place, trans)],
    [trans.__('Peak TFLOPS'), flops.join(' \u00b7 ')],
    [trans.__('Engines'), device.engines.map(engine => clean(engine, 20)).join(', ')],
    [trans.__('Layers held'), shard === null ? trans.__('none') : heldText(shard, stage ?? 0, trans)],
    [
      trans.__('Time per token'),
      compute === undefined ? '' : (
        <>
          {showSeconds(compute)} <Origin kind="measured" trans={trans} />
        </>
      )
    ],
    [trans.__('Latency from here'), node.latency_s === null ? '' : showSeconds(node.latency_s)],
    [trans.__('Address'), clean(node.address, 80)],
    [trans.__('Found by'), clean(node.how_found, 60)],
    [trans.__('Emulated'), clean(device.emulated, 120)]
  ];
  const name = cleanName(device.name);
  return (
    <div className="jp-ExoLab-card" role="region" aria-label={trans.__('About %1', name)}>
      <div className="jp-ExoLab-cardHead">
        <Swatch mark={state.marks.get(device.id) ?? markOf(0)} emulated={device.emulated !== ''} />
        <b>{name}</b>
        <button type="button" className="jp-ExoLab-link" onClick={props.close}>
          {trans.__('Close')}
        </button>
      </div>
      <dl>
        {rows
          .filter(([, value]) => value !== '')
          .map(([label, value]) => (
            <React.Fragment key={label}>
              <dt>{label}</dt>
              <dd>{value}</dd>
            </React.Fragment>
          ))}
      </dl>
    </div>
  );
}

function heldText(shard: Plan['shards'][number], stage: number, trans: Trans): string {
  const ends = [
    shard.start === 0 ? trans.__('embedding') : '',
    trans.__('layers %1', showLayers(shard.start, shard.end)),
    shard.end === shard.n_layers ? trans.__('head') : ''
  ];
  return trans.__('stage %1: %2', stage + 1, ends.filter(text => text !== '').join(', '));
}

function memoryText(place: Place, trans: Trans): string {
  const { device, memory_available_bytes: free } = place.node;
  if (device.memory_bytes <= 0) {
    return '';
  }
  return free === null
    ? showBytes(device.memory_bytes)
    : trans.__('%1, %2 available', showBytes(device.memory_bytes), showBytes(free));
}

/** The same facts as the picture, for those who do not see it, or want to copy them. */
function DeviceTable(props: {
  state: State;
  plan: Plan | null;
  places: ReadonlyArray<Place>;
  trans: Trans;
}): React.ReactElement {
  const { state, plan, places, trans } = props;
  const columns = [
    trans.__('Device'),
    trans.__('State'),
    trans.__('Load'),
    trans.__('Memory'),
    trans.__('Holds'),
    trans.__('Links')
  ];
  return (
    <table className="jp-ExoLab-table">
      <caption className="jp-ExoLab-hidden">{describe(state, plan, trans)}</caption>
      <thead>
        <tr>
          {columns.map(column => (
            <th key={column} scope="col">
              {column}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {places.map((place, i) => {
          const { node, stage } = place;
          const id = node.device.id;
          const shard = plan === null || stage === null ? null : plan.shards[stage];
          const links = state.links
            .filter(link => link.a === id || link.b === id)
            .map(link => {
              const other = link.a === id ? link.b : link.a;
              const name = state.status?.nodes.find(one => one.device.id === other)?.device.name ?? other.slice(0, 8);
              return `${cleanName(name)}: ${linkWords(link, trans).join(', ')}`;
            });
          const states = {
            alive: trans.__('alive'),
            suspect: trans.__('does not answer'),
            lost: trans.__('lost')
          };
          const emulated = node.device.emulated === '' ? '' : `, ${trans.__('emulated')}`;
          return (
            <tr key={id}>
              <th scope="row">
                <Swatch mark={state.marks.get(id) ?? markOf(i)} emulated={emulated !== ''} />{' '}
                {cleanName(node.device.name)}
                {node.is_self ? ` (${trans.__('this kernel')})` : ''}
              </th>
              <td>
                {states[node.liveness]}
                {emulated}
              </td>
              <td>{node.load === null ? '' : `${Math.round(node.load * 100)} %`}</td>
              <td>{memoryText(place, trans)}</td>
              <td>{shard === null ? '' : heldText(shard, stage ?? 0, trans)}</td>
              <td>
                {links.map(text => (
                  <div key={text}>{text}</div>
                ))}
              </td>
            </tr>
          );
        })}
      </tbody>
    </table>
  );
}

/** Who came and who went. */
function Comings(props: { notices: ReadonlyArray<Notice>; trans: Trans }): React.ReactElement {
  const { notices, trans } = props;
  return (
    <div className="jp-ExoLab-notices" role="log" aria-label={trans.__('What happened')}>
      {notices.map(notice => (
        <div key={notice.key} className={`jp-ExoLab-notice jp-mod-${notice.kind}`}>
          {noticeText(notice, trans)}
        </div>
      ))}
    </div>
  );
}

/** A notice as a sentence. */
export function noticeText(notice: Notice, trans: Trans): string {
  switch (notice.kind) {
    case 'joined':
      return trans.__('%1 joined', notice.text);
    case 'lost':
      return trans.__('%1 is gone', notice.text);
    default:
      return clean(notice.text);
  }
}

function short(text: string, characters: number): string {
  return text.length <= characters ? text : `${text.slice(0, characters - 1)}\u2026`;
}
