/** The strip of all layers as it is drawn: a segment a device, boundaries that can be moved, measured time below. */

import * as React from 'react';

import { BoundaryHandle } from './boundaryHandle';
import { Draft, ranges } from './draft';
import { nameOf, stageSeconds, State } from './model';
import { mark as markOf } from './palette';
import { LayerTime, SegmentCells } from './segmentCells';
import { HEAT, HEIGHT, strip, TOP } from './strip';
import { Trans } from './text';
import { Tuning } from './tuning';
import { ModelConfig } from './types';
import { showLayers } from './units';

interface StripProps {
  /** Null where nothing can be moved. */
  readonly tuning: Tuning | null;
  readonly draft: Draft;
  readonly config: ModelConfig;
  readonly state: State;
  readonly width: number;
  readonly refused: boolean;
  readonly trans: Trans;
}

export function StripPicture(props: StripProps): React.ReactElement {
  const { tuning, draft, config, state, width, refused, trans } = props;
  const drawn = strip(draft, width);
  const times = secondsPerLayer(state, tuning);
  const hottest = Math.max(0, ...[...times.values()].map(time => time.seconds));
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
          time={times.get(segment.device) ?? null}
          hottest={measured ? hottest : null}
          trans={trans}
        />
      ))}
      {tuning !== null &&
        drawn.handles.map((x, i) => (
          <BoundaryHandle
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

function stripSentence(draft: Draft, state: State, trans: Trans): string {
  const shares = ranges(draft).map(([start, end], i) => {
    const name = nameOf(state, draft.devices[i]);
    return start === end
      ? trans.__('%1 holds none', name)
      : trans.__('%1 holds %2', name, showLayers(start, end));
  });
  const total = draft.layers.reduce((sum, count) => sum + count, 0);
  return `${trans._n('%1 layer', '%1 layers', total)}: ${shares.join('; ')}`;
}

/** Measured seconds a layer of each device, from the stages of the loaded plan; of the layers that it holds there. */
export function secondsPerLayer(state: State, tuning: Tuning | null): ReadonlyMap<string, LayerTime> {
  const plan = tuning?.chosen?.plan ?? null;
  const times = stageSeconds(state, plan);
  const made = new Map<string, LayerTime>();
  plan?.devices.forEach((id, i) => {
    const time = times.get(id);
    if (time !== undefined) {
      const { start, end } = plan.shards[i];
      made.set(id, { start, end, seconds: time / (end - start) });
    }
  });
  return made;
}

function isEmulated(state: State, device: string): boolean {
  return (state.status?.nodes.find(node => node.device.id === device)?.device.emulated ?? '') !== '';
}
