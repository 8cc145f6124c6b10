/**
 * Placement and tuning: one strip of all layers, boundaries that can be moved, and what the kernel says of it.
 *
 * The strip is drawn from the draft; whether a draft can be, and what it would do, the kernel says (`Tuning`). A cell's
 * height is its layer's bytes; the band under it is measured time, where there is any.
 */

import * as React from 'react';

import { draftOf, sameLayers } from './draft';
import { shownModel, State } from './model';
import { Announcement, useSignal, useWidth } from './parts';
import { FiguresTable, MemoryTable } from './placementTables';
import { secondsPerLayer, StripPicture } from './stripPicture';
import { clean, cleanName, Trans } from './text';
import { Tuning } from './tuning';
import { showSeconds } from './units';

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
      <section role="group" className="jp-ExoLab-placement" aria-label={trans.__('Placement of layers')}>
        <p className="jp-ExoLab-hint">{trans.__('No model is loaded. Load one with %exo load.')}</p>
      </section>
    );
  }
  const same = sameLayers(draft, base);
  const fits = verdict?.kind !== 'refused';
  const reason = refusal !== '' ? refusal : verdict?.kind === 'refused' ? verdict.reason : '';
  return (
    <section role="group" className="jp-ExoLab-placement" aria-label={trans.__('Placement of layers')}>
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
      <HeatLegend state={state} tuning={tuning} trans={trans} />
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

/** The loaded plan without a kernel: the same strip, with nothing to move. */
export function PlacementStill(props: { state: State; trans: Trans }): React.ReactElement | null {
  const { state, trans } = props;
  const [ref, width] = useWidth(640);
  const loaded = shownModel(state);
  if (loaded === null) {
    return null;
  }
  return (
    <section role="group" className="jp-ExoLab-placement" aria-label={trans.__('Placement of layers')}>
      <div className="jp-ExoLab-placementHead">
        <b>{cleanName(loaded.plan.model)}</b>
        <span className="jp-ExoLab-faint">{trans.__('plan %1', loaded.plan.epoch)}</span>
      </div>
      <div ref={ref} className="jp-ExoLab-canvas">
        <StripPicture
          tuning={null}
          draft={draftOf(loaded.plan, [])}
          config={loaded.config}
          state={state}
          width={width}
          refused={false}
          trans={trans}
        />
      </div>
      <Remarks why={loaded.plan.why} notes={[]} trans={trans} />
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

function HeatLegend(props: PlacementProps): React.ReactElement | null {
  const { state, tuning, trans } = props;
  const times = [...secondsPerLayer(state, tuning).values()].map(time => time.seconds);
  return times.length === 0 ? null : (
    <p className="jp-ExoLab-hint">
      {trans.__(
        'Band below: time a layer takes for a token, measured as its stage\u2019s mean; %1 to %2.',
        showSeconds(Math.min(...times)),
        showSeconds(Math.max(...times))
      )}
    </p>
  );
}

function LoadingRows(props: { state: State }): React.ReactElement {
  return (
    <div className="jp-ExoLab-loading">
      {Object.entries(props.state.loading).map(([node, { done, total, what }]) => (
        <div key={node}>
          <span>{cleanName(node)}</span>
          <progress
            max={total > 0 ? total : undefined}
            value={total > 0 ? done : undefined}
            aria-label={cleanName(node)}
          />
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
