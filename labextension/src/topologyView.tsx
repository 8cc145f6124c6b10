/**
 * The topology: devices, the links between them, who holds what, and the token on its way round the ring.
 *
 * Pure in its state. Size is memory; the arc round a device is its load, and the figure beside it says the same; its
 * colour, hatching and number are those that it has everywhere.
 */

import * as React from 'react';

import { DeviceNode, Lit, TURN_S } from './deviceNode';
import { Card, DeviceTable } from './deviceTable';
import { HopLine, Wire } from './links';
import { isGenerating, Notice, runsOn, shownModel, stageSeconds, State } from './model';
import { mark as markOf } from './palette';
import { useReducedMotion, useWidth } from './parts';
import { hops, picture, Place, spareLinks, turn } from './ring';
import { clean, Trans } from './text';
import { describe } from './topologyWords';
import { Plan } from './types';

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
    <section role="group" className="jp-ExoLab-topology" aria-label={trans.__('Devices and links')}>
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
            narrow={shown.narrow}
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
  readonly narrow: boolean;
  readonly selected: string | null;
  readonly select: (device: string | null) => void;
  readonly trans: Trans;
}

function Graph(props: GraphProps): React.ReactElement {
  const { state, plan, places, width, height, narrow, selected, select, trans } = props;
  const ring = hops(places, plan, state.links);
  const running = isGenerating(state) && runsOn(state.generation, plan);
  const lit = useLit(state, plan, running);
  const bend = places.length === 2 ? 34 : places.length === 3 ? 22 : 12;
  const focus = React.useRef<Map<string, SVGElement>>(new Map());
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
          narrow={narrow}
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

/** When each stage is lit: during its share of the turn; without motion, all stages of the running plan are. */
function useLit(state: State, plan: Plan | null, running: boolean): (place: Place) => Lit {
  const still = useReducedMotion();
  // In steps of a twentieth, so that the animation does not start anew with every token.
  const times = stageSeconds(state, plan);
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

/** How much slower the picture turns than the ring. */
function Turn(props: { state: State; plan: Plan | null; trans: Trans }): React.ReactElement | null {
  const { state, plan, trans } = props;
  const still = useReducedMotion();
  if (!isGenerating(state) || !runsOn(state.generation, plan)) {
    return <span />;
  }
  const tokens = state.generation?.tokens ?? [];
  const last = tokens.length > 1 ? tokens[tokens.length - 1].at_s - tokens[tokens.length - 2].at_s : 0;
  if (still || last <= 0 || last >= TURN_S) {
    return <span>{trans.__('a token is on its way')}</span>;
  }
  return <span>{trans.__('shown %1 times slower than it is', Math.max(1, Math.round(TURN_S / last)))}</span>;
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
