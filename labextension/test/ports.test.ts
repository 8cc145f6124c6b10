/** What was ported from Python says what Python says: fixtures.json was made by the Python functions. */

import { shardBytes } from '../src/draft';
import { assign, hatch, Hatching, mark } from '../src/palette';
import { ModelConfig } from '../src/types';
import { showBandwidth, showBytes, showLayers, showRate, showSeconds } from '../src/units';
import { fixtures } from './fixtures';

test('marks are the same in every view', () => {
  for (const expected of fixtures.palette.marks) {
    expect(expected).toMatchObject(mark(expected.index));
  }
});

test('devices get their marks by natural order of their names', () => {
  const marks = assign(fixtures.palette.devices as [string, string][]);
  expect(Object.fromEntries([...marks].map(([id, one]) => [id, one.index]))).toEqual(fixtures.palette.index);
});

test('hatchings are the same paths', () => {
  for (const [kind, path] of Object.entries(fixtures.palette.hatch)) {
    expect(hatch(kind as Hatching, 1, 2.5, 40, 20)).toBe(path);
  }
});

test('bytes, seconds and rates read the same', () => {
  for (const [value, text] of fixtures.units.bytes as [number, string][]) {
    expect(showBytes(value)).toBe(text);
  }
  for (const [value, text] of fixtures.units.seconds as [number, string][]) {
    expect(showSeconds(value)).toBe(text);
  }
  for (const [value, text] of fixtures.units.rate as [number, string][]) {
    expect(showRate(value)).toBe(text);
  }
  for (const [start, end, text] of fixtures.units.layers as [number, number, string][]) {
    expect(showLayers(start, end)).toBe(text);
  }
});

test('bandwidth is said in bits, as networks are sold', () => {
  expect(showBandwidth(125e6)).toBe('1.00 Gbit/s');
  expect(showBandwidth(3.2e9)).toBe('25.6 Gbit/s');
});

test('a shard has as many bytes as in Python, tied embeddings or not', () => {
  for (const { config, bytes } of fixtures.shards) {
    for (const [start, end, expected] of bytes as [number, number, number][]) {
      expect(shardBytes(config as unknown as ModelConfig, start, end)).toBe(expected);
    }
  }
});
