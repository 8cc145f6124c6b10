/** What the front end knows of one kernel's cluster: a frozen state, and what happens to it. It knows no kernel and no DOM. */

import { Mark } from './palette';
import { ClusterStatus, GenerationStats, Link, PanelEvent, Plan, Prediction, TokenEvent } from './types';

/**
 * How we stand with the kernel.
 *
 * - `no-kernel`: no notebook or console is active, or it has no kernel
 * - `other-language`: its kernel is not Python
 * - `not-loaded`: Python, but exo_lab is not loaded in it (as far as we can see)
 * - `connecting`: the comm is being opened
 * - `not-a-node`: exo_lab is loaded, the kernel is in no cluster
 * - `connected`: we see its cluster
 * - `restarting`: the kernel restarts; we come back by ourselves
 * - `dead`: the kernel died
 */
export type Phase =
  | 'no-kernel'
  | 'other-language'
  | 'not-loaded'
  | 'connecting'
  | 'not-a-node'
  | 'connected'
  | 'restarting'
  | 'dead';

export interface Generation {
  readonly request: string;
  readonly model: string;
  readonly epoch: number;
  readonly devices: ReadonlyArray<string>;
  readonly promptTokens: number;
  /** The first token that comes over `devices`; 0 where it began on them. */
  readonly movedAt: number;
  readonly tokens: ReadonlyArray<TokenEvent>;
  /** Measured figures, once it is over. */
  readonly stats: GenerationStats | null;
}

export interface Loading {
  readonly done: number;
  readonly total: number;
  readonly what: string;
}

/** One plan that was applied from here: what was predicted for it, and what it replaced. */
export interface Change {
  readonly model: string;
  readonly epoch: number;
  readonly predicted: Prediction | null;
  /** What was predicted for the plan that it replaced, at that time. */
  readonly predictedBefore: Prediction | null;
  readonly before: Plan;
  readonly after: Plan;
}

export interface Notice {
  readonly key: number;
  readonly kind: 'joined' | 'lost' | 'remark';
  readonly device: string | null;
  readonly text: string;
}

export interface State {
  readonly phase: Phase;
  /** The notebook's or console's name, and its kernel's. */
  readonly subject: string;
  readonly language: string;
  readonly software: string;
  readonly status: ClusterStatus | null;
  readonly links: ReadonlyArray<Link>;
  readonly strategies: ReadonlyArray<string>;
  readonly defaultStrategy: string;
  readonly predicts: boolean;
  readonly marks: ReadonlyMap<string, Mark>;
  readonly generation: Generation | null;
  readonly loading: Readonly<Record<string, Loading>>;
  /** Newest last. */
  readonly changes: ReadonlyArray<Change>;
  /** The last figures that were measured on a plan, by "model epoch". */
  readonly measured: Readonly<Record<string, GenerationStats>>;
  readonly notices: ReadonlyArray<Notice>;
  /** The kernel speaks another version of the protocol; what it says is not shown. */
  readonly mismatch: number | null;
}

/** What happens on this side, beside what the kernel says. */
export type LocalEvent =
  | { readonly type: 'attached'; readonly subject: string; readonly language: string; readonly phase: Phase }
  | { readonly type: 'phase'; readonly phase: Phase }
  | {
      readonly type: 'plan-applied';
      readonly before: Plan;
      readonly after: Plan;
      readonly predicted: Prediction | null;
      readonly predictedBefore: Prediction | null;
    };

export type Message = PanelEvent | LocalEvent;

export const EMPTY: State = {
  phase: 'no-kernel',
  subject: '',
  language: '',
  software: '',
  status: null,
  links: [],
  strategies: [],
  defaultStrategy: '',
  predicts: false,
  marks: new Map(),
  generation: null,
  loading: {},
  changes: [],
  measured: {},
  notices: [],
  mismatch: null
};
