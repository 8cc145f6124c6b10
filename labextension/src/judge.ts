/** What the kernel says of drafts, remembered: a boundary that goes to and fro is asked of once at each place. Knows no DOM. */

import { changeOf, Draft, keyOf } from './draft';
import { Ask, KernelProblem } from './link';
import { PanelAnswer, Prediction } from './types';

export type Asking = (ask: Ask) => Promise<PanelAnswer>;

/** What the kernel says of a draft: a prediction, or why there is none. */
export type Verdict =
  | { readonly kind: 'fits'; readonly prediction: Prediction }
  | { readonly kind: 'refused'; readonly reason: string; readonly prediction: Prediction | null };

const KEPT_VERDICTS = 500;

export class Judge {
  constructor(
    private readonly _ask: Asking,
    private readonly _contextTokens: number
  ) {}

  /** What the kernel says of a draft. `fresh`: memory may have come free since it was asked last. */
  async of(draft: Draft, fresh = false): Promise<Verdict> {
    const known = this.known(draft);
    if (known !== null && !fresh) {
      return known;
    }
    const verdict = await this.ask({ type: 'what-if', change: changeOf(draft, this._contextTokens) });
    this.remember(draft, verdict);
    return verdict;
  }

  async ask(ask: Ask): Promise<Verdict> {
    this._lost = false;
    try {
      const answer = await this._ask(ask);
      if (answer.type !== 'predicted') {
        return { kind: 'refused', reason: `unexpected answer: ${answer.type}`, prediction: null };
      }
      const { prediction } = answer;
      return prediction.fits
        ? { kind: 'fits', prediction }
        : { kind: 'refused', reason: prediction.reason, prediction };
    } catch (error) {
      this._lost =
        error instanceof KernelProblem && (error.kind === 'Timeout' || error.kind === 'NotConnected');
      return { kind: 'refused', reason: textOf(error), prediction: null };
    }
  }

  known(draft: Draft): Verdict | null {
    return this._verdicts.get(keyOf(draft)) ?? null;
  }

  remember(draft: Draft, verdict: Verdict): void {
    if (this._lost) {
      return; // says nothing of the draft
    }
    if (this._verdicts.size >= KEPT_VERDICTS) {
      this._verdicts.clear();
    }
    this._verdicts.set(keyOf(draft), verdict);
  }

  private _lost = false;
  private readonly _verdicts = new Map<string, Verdict>();
}

export function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
