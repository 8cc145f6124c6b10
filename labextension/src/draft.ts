/**
 * A plan in the making: layers per device, changed by moving boundaries. Pure; the kernel judges it, this does not.
 *
 * The draft's devices are the plan's in ring order, then those that are left out with no layers: moving a boundary
 * takes a device in, or leaves it out.
 */

import { ModelConfig, Plan, PlanChange, Prediction } from './types';

export interface Draft {
  readonly model: string;
  /** Of the plan that the person saw when the draft began. */
  readonly epoch: number;
  readonly devices: ReadonlyArray<string>;
  /** Adds up to the model's layers. */
  readonly layers: ReadonlyArray<number>;
  readonly strategy: string;
}

/** The plan as it is, with the devices that it leaves out. */
export function draftOf(plan: Plan, others: ReadonlyArray<string>): Draft {
  const left = others.filter(id => !plan.devices.includes(id));
  return {
    model: plan.model,
    epoch: plan.epoch,
    devices: [...plan.devices, ...left],
    layers: [...plan.shards.map(shard => shard.end - shard.start), ...left.map(() => 0)],
    strategy: plan.strategy
  };
}

/** Where boundary `i` is: before it lie the layers of devices 0..i. There is one less than there are devices. */
export function boundary(draft: Draft, i: number): number {
  return sum(draft.layers.slice(0, i + 1));
}

/** How far boundary `i` can go without pushing another one: [least, most]. */
export function reach(draft: Draft, i: number): readonly [number, number] {
  return [i === 0 ? 0 : boundary(draft, i - 1), boundary(draft, i + 1)];
}

/**
 * The draft with boundary `i` at `to`, as near as it can go. Layers move between the two devices beside it only; when
 * nothing moves, the same draft is returned.
 */
export function moveBoundary(draft: Draft, i: number, to: number): Draft {
  const [least, most] = reach(draft, i);
  const at = Math.min(most, Math.max(least, Math.round(to)));
  if (at === boundary(draft, i)) {
    return draft;
  }
  const layers = [...draft.layers];
  layers[i] = at - least;
  layers[i + 1] = most - at;
  return { ...draft, layers, strategy: 'manual' };
}

/** The draft that a strategy's prediction describes, other devices kept at its end. */
export function draftFrom(draft: Draft, prediction: Prediction): Draft {
  const used = prediction.devices.filter(one => one.layers > 0);
  const rest = draft.devices.filter(id => !used.some(one => one.device === id));
  return {
    ...draft,
    devices: [...used.map(one => one.device), ...rest],
    layers: [...used.map(one => one.layers), ...rest.map(() => 0)],
    strategy: prediction.strategy
  };
}

/** Do both give the same layers to the same devices in the same order? */
export function sameLayers(a: Draft, b: Draft): boolean {
  return keyOf(a) === keyOf(b);
}

/** Equal for drafts that mean the same plan. */
export function keyOf(draft: Draft): string {
  const used = draft.devices.map((id, i) => `${id}:${draft.layers[i]}`).filter(part => !part.endsWith(':0'));
  return `${draft.model}@${draft.epoch} ${used.join(' ')}`;
}

/** What the kernel is asked. */
export function changeOf(draft: Draft, contextTokens: number): PlanChange {
  return {
    model: draft.model,
    epoch: draft.epoch,
    devices: draft.devices,
    layers: draft.layers,
    strategy: draft.strategy,
    context_tokens: contextTokens
  };
}

/** The half-open range of layers of each device. */
export function ranges(draft: Draft): ReadonlyArray<readonly [number, number]> {
  let at = 0;
  return draft.layers.map(count => {
    const start = at;
    at += count;
    return [start, at] as const;
  });
}

/** Weight bytes, as stored in the file, of layers [start, end), embedding and head on the ends: `shard_bytes`. */
export function shardBytes(config: ModelConfig, start: number, end: number): number {
  if (start === end) {
    return 0;
  }
  let total = sum(config.layer_bytes.slice(start, end));
  if (start === 0) {
    total += config.embedding_bytes;
  }
  if (end === config.n_layers) {
    const shared = config.tied_embeddings && start === 0;
    total += config.head_bytes - (shared ? config.embedding_bytes : 0);
  }
  return total;
}

function sum(values: ReadonlyArray<number>): number {
  return values.reduce((total, value) => total + value, 0);
}

/** The draft, when devices have come or gone that it gives no layers to. */
export function withDevices(draft: Draft, devices: ReadonlyArray<string>): Draft {
  const kept = draft.devices
    .map((id, i) => [id, draft.layers[i]] as const)
    .filter(([id, count]) => count > 0 || devices.includes(id));
  const added = devices.filter(id => !draft.devices.includes(id));
  return {
    ...draft,
    devices: [...kept.map(([id]) => id), ...added],
    layers: [...kept.map(([, count]) => count), ...added.map(() => 0)]
  };
}
