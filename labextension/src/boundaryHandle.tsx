/** A boundary between two devices: a slider, moved with a pointer or with keys. */

import * as React from 'react';

import { boundary, Draft, ranges, reach, shardBytes } from './draft';
import { nameOf, State } from './model';
import { n } from './palette';
import { HEIGHT, nearest, TOP } from './strip';
import { Trans } from './text';
import { Tuning } from './tuning';
import { ModelConfig } from './types';
import { showBytes } from './units';

const BIG_STEP = 5; // layers, for Page Up and Page Down

/** A boundary: a slider over the layers between its neighbours. */
export function BoundaryHandle(props: {
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
    return box === undefined || box.width === 0
      ? event.clientX
      : ((event.clientX - box.left) * width) / box.width;
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
export function handleText(
  draft: Draft,
  config: ModelConfig,
  index: number,
  state: State,
  trans: Trans
): string {
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
