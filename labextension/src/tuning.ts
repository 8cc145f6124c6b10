/**
 * Moving layers: the draft, what the kernel says of it, applying it, and going back. Knows no DOM.
 *
 * While a boundary is dragged the draft changes at once and the kernel is asked what it would do, one question at a time
 * and always the latest. On release the draft is committed once, with the epoch of the plan that the person saw: the
 * kernel accepts it or refuses it with the reason, and a refused boundary goes back. Nothing is loaded before `apply`.
 */

import { ISignal, Signal } from '@lumino/signaling';

import { changeOf, Draft, draftFrom, draftOf, keyOf, moveBoundary, sameLayers, withDevices } from './draft';
import { Asking, Judge, textOf, Verdict } from './judge';
import { Change, ClusterModel, livingNodes, shownModel, State } from './model';
import { GenerationStats, LoadedModel, Plan, Prediction } from './types';

export type { Verdict };

export interface TuningState {
  readonly draft: Draft | null;
  /** The plan that is loaded, as a draft: what the draft is compared with. */
  readonly base: Draft | null;
  readonly verdict: Verdict | null;
  /** Of the loaded plan; predicted. */
  readonly baseVerdict: Verdict | null;
  readonly moving: boolean;
  readonly asking: boolean;
  readonly applying: boolean;
  /** Why the last move or change was refused. */
  readonly refusal: string;
  /** Said aloud by screen readers. */
  readonly announcement: string;
}

const NOTHING: TuningState = {
  draft: null,
  base: null,
  verdict: null,
  baseVerdict: null,
  moving: false,
  asking: false,
  applying: false,
  refusal: '',
  announcement: ''
};

export class Tuning {
  constructor(
    private readonly _model: ClusterModel,
    private readonly _ask: Asking,
    private readonly _contextTokens: number = 2048
  ) {
    this._judge = new Judge(_ask, _contextTokens);
    _model.changed.connect(this._follow, this);
    this._follow();
  }

  get state(): TuningState {
    return this._state;
  }

  get changed(): ISignal<this, void> {
    return this._changed;
  }

  dispose(): void {
    this._model.changed.disconnect(this._follow, this);
    Signal.clearData(this);
  }

  /** Show another of the loaded models. */
  choose(model: string): void {
    this._chosen = model;
    this._set(NOTHING);
    this._follow();
  }

  get chosen(): LoadedModel | null {
    return shownModel(this._model.state, this._chosen);
  }

  /** Move boundary `i` to lie after `to` layers; local, at once. */
  move(i: number, to: number): void {
    const { draft, applying } = this._state;
    if (draft === null || applying) {
      return;
    }
    const moved = moveBoundary(draft, i, to);
    if (moved === draft) {
      return;
    }
    this._accepted ??= draft;
    this._set({ ...this._state, draft: moved, moving: true, refusal: '', verdict: this._judge.known(moved) });
    void this._inquire();
  }

  /** The finger is lifted: the kernel says whether this can be. A refused draft goes back to what it was. */
  async release(): Promise<void> {
    const { draft, base } = this._state;
    const before = this._accepted;
    if (draft === null || before === null) {
      return;
    }
    this._accepted = null;
    this._set({ ...this._state, moving: false });
    if (sameLayers(draft, before)) {
      return;
    }
    const verdict = await this._judge.of(draft, true);
    // Links and memory have changed since the loaded plan was judged; compared are figures of one moment.
    const baseVerdict = base === null ? null : await this._judge.of(base, true);
    if (this._state.base === base) {
      this._set({ ...this._state, baseVerdict });
    }
    if (this._state.draft !== draft) {
      return; // moved on meanwhile
    }
    if (verdict.kind === 'refused') {
      const refusal = verdict.reason;
      this._set({
        ...this._state,
        draft: before,
        verdict: this._judge.known(before),
        refusal,
        announcement: refusal
      });
    } else {
      this._set({ ...this._state, verdict });
    }
  }

  /** Escape: as if the boundary had not been touched. */
  abandon(): void {
    const before = this._accepted;
    if (before !== null) {
      this._accepted = null;
      this._set({ ...this._state, draft: before, verdict: this._judge.known(before), moving: false });
    }
  }

  /** Back to the loaded plan. */
  reset(): void {
    const { base } = this._state;
    this._accepted = null;
    this._set({ ...this._state, draft: base, verdict: this._state.baseVerdict, refusal: '', moving: false });
  }

  /** Have a strategy share out the layers; shown as a draft. */
  async useStrategy(strategy: string): Promise<void> {
    const { draft } = this._state;
    if (draft === null) {
      return;
    }
    const change = { ...changeOf(draft, this._contextTokens), layers: null, strategy };
    this._set({ ...this._state, asking: true, refusal: '' });
    const verdict = await this._judge.ask({ type: 'what-if', change });
    if (this._state.draft !== draft) {
      this._set({ ...this._state, asking: false });
    } else if (verdict.kind === 'refused') {
      this._set({ ...this._state, asking: false, refusal: verdict.reason, announcement: verdict.reason });
    } else {
      const next = draftFrom(draft, verdict.prediction);
      this._judge.remember(next, verdict);
      this._set({ ...this._state, asking: false, draft: next, verdict });
    }
  }

  /** Move the layers, live. */
  async apply(): Promise<void> {
    const { draft, base, verdict } = this._state;
    const loaded = this.chosen;
    if (draft === null || base === null || loaded === null || sameLayers(draft, base)) {
      return;
    }
    await this._commit(draft, loaded.plan, verdict?.kind === 'fits' ? verdict.prediction : null);
  }

  /** The last change that was made from here and still stands: what `undo` takes back. */
  get undoable(): Change | null {
    const plan = this.chosen?.plan;
    const last = this._model.state.changes.at(-1);
    return plan !== undefined && last?.model === plan.model && last.epoch === plan.epoch ? last : null;
  }

  /** What was last measured on a plan of the shown model, whoever made it. */
  measured(epoch: number): GenerationStats | null {
    return this._model.state.measured[`${this.chosen?.plan.model} ${epoch}`] ?? null;
  }

  /** Back to the plan before the last change. */
  async undo(): Promise<void> {
    const change = this.undoable;
    const loaded = this.chosen;
    if (change === null || loaded === null) {
      return;
    }
    const back = { ...draftOf(change.before, []), epoch: loaded.plan.epoch };
    await this._commit(back, loaded.plan, null);
  }

  private async _commit(draft: Draft, before: Plan, predicted: Prediction | null): Promise<void> {
    if (this._state.applying) {
      return;
    }
    const predictedBefore = this.undoable?.predicted ?? this._state.baseVerdict?.prediction ?? null;
    this._set({ ...this._state, applying: true, refusal: '' });
    try {
      const answer = await this._ask({ type: 'apply', change: changeOf(draft, this._contextTokens) });
      this._accepted = null;
      this._set({ ...this._state, applying: false, draft: null });
      if (answer.type === 'applied') {
        this._model.dispatch({
          type: 'plan-applied',
          before,
          after: answer.plan,
          predicted,
          predictedBefore
        });
      }
    } catch (error) {
      const refusal = textOf(error);
      this._set({ ...this._state, applying: false, refusal, announcement: refusal });
    }
  }

  /** Follow the cluster: a new plan replaces the draft, since the draft was made for an older epoch. */
  private _follow(): void {
    const loaded = this.chosen;
    if (loaded === null) {
      if (this._state.draft !== null) {
        this._accepted = null;
        this._set(NOTHING);
      }
      return;
    }
    const base = draftOf(loaded.plan, others(this._model.state));
    const { draft, base: was } = this._state;
    const sameBase = was !== null && keyOf(base) === keyOf(was) && base.devices.join() === was.devices.join();
    if (draft !== null && sameBase) {
      return;
    }
    const samePlan = was !== null && draft !== null && keyOf(base) === keyOf(was);
    const next = samePlan ? withDevices(draft, base.devices) : base;
    this._accepted = null;
    this._set({
      ...this._state,
      draft: next,
      base,
      verdict: this._judge.known(next),
      baseVerdict: this._judge.known(base),
      moving: false
    });
    void this._judge.of(base).then(baseVerdict => {
      if (this._state.base === base) {
        const verdict = this._state.draft === base ? baseVerdict : this._state.verdict;
        this._set({ ...this._state, baseVerdict, verdict });
      }
    });
  }

  /** One question at a time, always the latest draft. */
  private async _inquire(): Promise<void> {
    if (this._inquiring) {
      return;
    }
    this._inquiring = true;
    try {
      while (this._state.draft !== null && this._judge.known(this._state.draft) === null) {
        const asked = this._state.draft;
        this._set({ ...this._state, asking: true });
        const verdict = await this._judge.of(asked);
        if (this._state.draft === asked) {
          this._set({ ...this._state, verdict });
        }
        if (verdict.kind === 'refused' && this._judge.known(asked) === null) {
          break; // the kernel is gone; asking again would not end
        }
      }
    } finally {
      this._inquiring = false;
      this._set({ ...this._state, asking: false });
    }
  }

  private _set(state: TuningState): void {
    this._state = state;
    this._changed.emit();
  }

  private _state: TuningState = NOTHING;
  private _chosen: string | null = null;
  private _accepted: Draft | null = null; // the draft before the boundary was touched
  private _inquiring = false;
  private readonly _judge: Judge;
  private readonly _changed = new Signal<this, void>(this);
}

function others(state: State): string[] {
  return livingNodes(state).map(node => node.device.id);
}
