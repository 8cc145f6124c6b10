/** Moving boundaries: every layer is held exactly once, whatever is done. */

import { boundary, Draft, draftOf, keyOf, moveBoundary, ranges, reach, sameLayers } from '../src/draft';
import { nearest, strip } from '../src/strip';
import { samplePlan } from './fixtures';

const draft = draftOf(samplePlan(), ['aaa111', 'bbb222', 'ccc333', 'ddd444']);
const total = (one: Draft): number => one.layers.reduce((sum, count) => sum + count, 0);

/** Numbers that look random and are the same in every run. */
function* numbers(seed: number): Generator<number, never> {
  let x = seed;
  for (;;) {
    x = (x * 1103515245 + 12345) % 2147483648;
    yield x;
  }
}

test('a draft begins as the plan, with the devices that it leaves out', () => {
  expect(draft.devices).toEqual(['aaa111', 'bbb222', 'ccc333', 'ddd444']);
  expect(draft.layers).toEqual([14, 10, 6, 0]);
  expect(draft.epoch).toBe(3);
});

test('whatever is moved wherever, every layer is held exactly once and in order', () => {
  const random = numbers(7);
  let moved = draft;
  for (let step = 0; step < 2000; step += 1) {
    const before = moved;
    const i = random.next().value % (draft.devices.length - 1);
    moved = moveBoundary(moved, i, (random.next().value % 60) - 15);
    expect(total(moved)).toBe(30);
    expect(Math.min(...moved.layers)).toBeGreaterThanOrEqual(0);
    expect(ranges(moved).at(-1)?.[1]).toBe(30);
    // Only the two devices beside it are touched.
    before.layers.forEach((count, k) => {
      if (k !== i && k !== i + 1) {
        expect(moved.layers[k]).toBe(count);
      }
    });
  }
});

test('a boundary stops at its neighbours', () => {
  expect(reach(draft, 1)).toEqual([14, 30]);
  expect(boundary(moveBoundary(draft, 1, 99), 1)).toBe(30);
  expect(boundary(moveBoundary(draft, 1, -99), 1)).toBe(14);
});

test('a move that moves nothing gives the same draft', () => {
  expect(moveBoundary(draft, 0, 14)).toBe(draft);
});

test('drafts that mean the same plan are the same, whoever is left out', () => {
  const without = draftOf(samplePlan(), []);
  expect(sameLayers(draft, without)).toBe(true);
  expect(sameLayers(draft, moveBoundary(draft, 0, 13))).toBe(false);
  expect(keyOf({ ...draft, epoch: 4 })).not.toBe(keyOf(draft));
});

test.each([240, 640, 1200])(
  'in %i pixels the strip lies inside, in order, and its handles do not touch',
  width => {
    const random = numbers(11);
    let moved = draft;
    for (let step = 0; step < 200; step += 1) {
      moved = moveBoundary(moved, random.next().value % 3, random.next().value % 31);
      const { segments, handles } = strip(moved, width);
      expect(segments.filter(segment => segment.embeddingX !== null)).toHaveLength(1);
      expect(segments.filter(segment => segment.headX !== null)).toHaveLength(1);
      segments.slice(1).forEach((segment, i) => {
        expect(segment.x).toBeGreaterThan(segments[i].x + segments[i].width);
      });
      handles.slice(1).forEach((x, i) => expect(x - handles[i]).toBeGreaterThanOrEqual(10));
      const last = segments[segments.length - 1];
      if (width >= 640) {
        expect(last.headX ?? last.x + last.width).toBeLessThanOrEqual(width);
      }
    }
  }
);

test('the position nearest to a handle is where the boundary is', () => {
  for (let to = 0; to <= 24; to += 1) {
    const moved = moveBoundary(draft, 0, to);
    expect(nearest(draft, 0, strip(moved, 640).handles[0], 640)).toBe(to);
  }
});
