/** Figures beside the strip: what is predicted, what was measured, and what each device must hold. */

import * as React from 'react';

import { ranges, sameLayers, shardBytes } from './draft';
import { nameOf, State, stageSeconds } from './model';
import { mark as markOf } from './palette';
import { Origin, Swatch } from './parts';
import { clean, Trans } from './text';
import { Tuning } from './tuning';
import { GenerationStats, Prediction } from './types';
import { showBytes, showLayers, showRate, showSeconds } from './units';

interface TableProps {
  readonly tuning: Tuning;
  readonly state: State;
  readonly trans: Trans;
}

interface Row {
  readonly key: string;
  readonly label: string;
  readonly predicted: Prediction | null;
  readonly measured: GenerationStats | null;
}

/** Predicted and measured side by side: the plan before, the loaded one, and the draft. */
export function FiguresTable(props: TableProps): React.ReactElement {
  const { tuning, state, trans } = props;
  const rows = figureRows(props);
  const context = tuning.state.verdict?.prediction?.context_tokens ?? null;
  const origin =
    rows.find(row => row.predicted !== null && row.predicted.origin !== '')?.predicted?.origin ?? '';
  return (
    <>
      <table className="jp-ExoLab-table">
        <thead>
          <tr>
            <th scope="col">{trans.__('Plan')}</th>
            <th scope="col">
              <Origin kind="predicted" trans={trans} />
            </th>
            <th scope="col">
              <Origin kind="measured" trans={trans} />
            </th>
          </tr>
        </thead>
        <tbody aria-busy={tuning.state.asking}>
          {rows.map(row => (
            <tr key={row.key}>
              <th scope="row">{row.label}</th>
              <td>
                <Figures rate={row.predicted?.tokens_per_s} first={row.predicted?.ttft_s} trans={trans} />
              </td>
              <td>
                <Figures rate={row.measured?.tokens_per_s} first={row.measured?.ttft_s} trans={trans} />
                <Deviation row={row} trans={trans} />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
      {origin !== '' && (
        <p className="jp-ExoLab-hint">
          {trans.__('Predictions rest on coefficients that are: %1.', clean(origin, 120))}
        </p>
      )}
      {context !== null && (
        <p className="jp-ExoLab-hint">
          {trans._n(
            'Memory is judged for %1 token of prompt and answer.',
            'Memory is judged for %1 tokens of prompt and answer.',
            context
          )}
        </p>
      )}
      {!state.predicts && (
        <p className="jp-ExoLab-hint">
          {trans.__('This kernel has no cost model, so nothing is predicted; memory is still checked.')}
        </p>
      )}
    </>
  );
}

/** How far the measured rate is from the predicted one. */
function Deviation({ row, trans }: { row: Row; trans: Trans }): React.ReactElement | null {
  const predicted = row.predicted?.tokens_per_s ?? 0;
  const measured = row.measured?.tokens_per_s ?? 0;
  if (predicted <= 0 || measured <= 0) {
    return null;
  }
  const percent = Math.round(100 * (measured / predicted - 1));
  return (
    <div className="jp-ExoLab-faint">
      {percent === 0
        ? trans.__('as predicted')
        : percent > 0
          ? trans.__('%1 % above the prediction', percent)
          : trans.__('%1 % below the prediction', -percent)}
    </div>
  );
}

interface Pair {
  readonly rate: number | null | undefined;
  readonly first: number | null | undefined;
  readonly trans: Trans;
}

/** Decode rate, and the time to the first token. */
function Figures({ rate, first, trans }: Pair): React.ReactElement {
  return (
    <>
      {rate !== null && rate !== undefined && <b>{showRate(rate)}</b>}
      {first !== null && first !== undefined && (
        <div className="jp-ExoLab-faint">{trans.__('first after %1', showSeconds(first))}</div>
      )}
    </>
  );
}

function figureRows({ tuning, state, trans }: TableProps): Row[] {
  const { draft, base, verdict, baseVerdict } = tuning.state;
  const plan = tuning.chosen?.plan;
  if (draft === null || base === null || plan === undefined) {
    return [];
  }
  const rows: Row[] = [];
  const change = state.changes.findLast(one => one.model === plan.model && one.epoch === plan.epoch);
  if (change !== undefined) {
    const earlier = state.changes.findLast(
      one => one.model === plan.model && one.epoch === change.before.epoch
    );
    rows.push({
      key: 'before',
      label: trans.__('before (plan %1)', change.before.epoch),
      predicted: earlier?.predicted ?? change.predictedBefore,
      measured: tuning.measured(change.before.epoch)
    });
  }
  rows.push({
    key: 'loaded',
    label: trans.__('loaded (plan %1)', plan.epoch),
    predicted: change?.predicted ?? baseVerdict?.prediction ?? null,
    measured: tuning.measured(plan.epoch)
  });
  if (!sameLayers(draft, base)) {
    rows.push({
      key: 'draft',
      label: trans.__('draft'),
      predicted: verdict?.prediction ?? null,
      measured: null
    });
  }
  return rows;
}

/**
 * Layers, bytes and room of each device under the draft. The strip's table alternative.
 *
 * In a narrow panel each device is a block of lines that name their column. A table that is laid out as anything else is
 * none for screen readers unless its parts say what they are.
 */
export function MemoryTable(props: TableProps): React.ReactElement | null {
  const { tuning, state, trans } = props;
  const { draft, verdict } = tuning.state;
  const config = tuning.chosen?.config;
  if (draft === null || config === undefined) {
    return null;
  }
  const times = stageSeconds(state, tuning.chosen?.plan ?? null);
  const heads = {
    layers: trans.__('Layers'),
    memory: trans.__('Memory'),
    time: trans.__('Time per token')
  };
  const predicted = new Map(verdict?.prediction?.devices.map(one => [one.device, one]) ?? []);
  return (
    <div
      className="jp-ExoLab-scroll"
      role="group"
      tabIndex={0}
      aria-label={trans.__('Memory and time of each device')}
    >
      <table className="jp-ExoLab-table jp-ExoLab-memory" role="table">
        <thead role="rowgroup">
          <tr role="row">
            <th role="columnheader">{trans.__('Device')}</th>
            <th role="columnheader">{heads.layers}</th>
            <th role="columnheader">
              {heads.memory} <Origin kind="predicted" trans={trans} />
            </th>
            <th role="columnheader">{heads.time}</th>
          </tr>
        </thead>
        <tbody role="rowgroup">
          {ranges(draft).map(([start, end], i) => {
            const id = draft.devices[i];
            const one = predicted.get(id);
            const time = holdsAsLoaded(tuning, i) ? times.get(id) : undefined;
            const emulated =
              (state.status?.nodes.find(node => node.device.id === id)?.device.emulated ?? '') !== '';
            return (
              <tr key={id} role="row">
                <th role="rowheader">
                  <Swatch mark={state.marks.get(id) ?? markOf(i)} emulated={emulated} /> {nameOf(state, id)}
                  {emulated ? ` (${trans.__('emulated')})` : ''}
                </th>
                <td role="cell" data-head={heads.layers}>
                  {start === end ? trans.__('none') : showLayers(start, end)}
                  {start !== end && (
                    <div className="jp-ExoLab-faint">
                      {trans.__('%1 in the file', showBytes(shardBytes(config, start, end)))}
                    </div>
                  )}
                </td>
                <td role="cell" data-head={heads.memory}>
                  <Room
                    needed={start === end ? null : (one?.memory_needed_bytes ?? null)}
                    there={one?.memory_available_bytes ?? null}
                    trans={trans}
                  />
                </td>
                <td role="cell" data-head={heads.time}>
                  <Time value={start === end ? null : one?.stage_s} kind="predicted" trans={trans} />
                  <Time value={start === end ? null : time} kind="measured" trans={trans} />
                </td>
              </tr>
            );
          })}
        </tbody>
      </table>
    </div>
  );
}

/** Does the draft leave a device the layers that it has? What was measured is not true of others. */
function holdsAsLoaded({ state: { draft, base } }: Tuning, i: number): boolean {
  if (draft === null || base === null) {
    return false;
  }
  const was = base.devices.indexOf(draft.devices[i]);
  return was >= 0 && ranges(base)[was].join() === ranges(draft)[i].join();
}

/** How much of a device's memory would be used, as a bar and in figures. */
function Room(props: {
  needed: number | null;
  there: number | null;
  trans: Trans;
}): React.ReactElement | null {
  const { needed, there, trans } = props;
  if (needed === null) {
    return null;
  }
  if (there === null || there <= 0) {
    return <>{showBytes(needed)}</>;
  }
  const share = needed / there;
  const text = trans.__('%1 of %2', showBytes(needed), showBytes(there));
  return (
    <span className={share > 1 ? 'jp-ExoLab-room jp-mod-short' : 'jp-ExoLab-room'}>
      <span className="jp-ExoLab-bar" aria-hidden="true">
        <span style={{ width: `${Math.min(100, 100 * share).toFixed(1)}%` }} />
      </span>
      {text}
      {share > 1 ? ` (${trans.__('too little')})` : ''}
    </span>
  );
}

function Time(props: {
  value: number | null | undefined;
  kind: 'predicted' | 'measured';
  trans: Trans;
}): React.ReactElement | null {
  const { value, kind, trans } = props;
  return value === null || value === undefined ? null : (
    <div>
      {showSeconds(value)} <Origin kind={kind} trans={trans} />
    </div>
  );
}
