/** Sample messages, made by Python from the structs; and things to make tests of. */

import raw from './fixtures.json';
import { ClusterModel, reduce, EMPTY, State } from '../src/model';
import { ModelConfig, Plan, StatusEvent, TokenEvent } from '../src/types';

export const fixtures = raw;
export const status = raw.status as unknown as StatusEvent;
export const tokens = raw.tokens as unknown as TokenEvent[];

/** The sample cluster's state. */
export function sampleState(): State {
  return reduce(EMPTY, status);
}

export function sampleModel(): ClusterModel {
  return new ClusterModel(sampleState());
}

export function samplePlan(): Plan {
  const plan = status.status?.models[0]?.plan;
  if (plan === undefined) {
    throw new Error('the fixture has no plan');
  }
  return plan;
}

export function sampleConfig(): ModelConfig {
  const config = status.status?.models[0]?.config;
  if (config === undefined) {
    throw new Error('the fixture has no model');
  }
  return config;
}

/** The screen's next frame, with all that waited for it. */
export async function frame(): Promise<void> {
  await settle();
  await new Promise(resolve => requestAnimationFrame(resolve));
  await settle();
}

/** Let every settled promise go on. */
export async function settle(): Promise<void> {
  for (let i = 0; i < 20; i += 1) {
    await Promise.resolve();
  }
}
