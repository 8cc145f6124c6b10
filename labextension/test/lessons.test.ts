/** A lesson is copied once, and what the reader made of it is never overwritten. */

import { ServerConnection } from '@jupyterlab/services';

import { Files, ownCopy } from '../src/lessons';
import { LessonsAnswer } from '../src/types';

const ANSWER: LessonsAnswer = { lessons: [{ name: '01-a', title: '1 · A', notebook: '{"cells": []}' }] };
const lessons = jest.fn(async () => ANSWER);

function files(there: ReadonlyArray<string>, status = 404): { disk: Files; saved: Map<string, unknown> } {
  const saved = new Map<string, unknown>();
  const get = async (path: string): Promise<unknown> => {
    if (!there.includes(path)) {
      throw new ServerConnection.ResponseError({ status } as Response);
    }
    return { path };
  };
  const save = async (path: string, options: { content?: unknown } = {}): Promise<unknown> => {
    saved.set(path, options.content);
    return { path };
  };
  return { disk: { get, save } as unknown as Files, saved };
}

beforeEach(() => lessons.mockClear());

test('the first time a copy is made in the folder that is open', async () => {
  const { disk, saved } = files([]);
  expect(await ownCopy(disk, lessons, '01-a', 'work')).toBe('work/01-a.ipynb');
  expect(saved.get('work/01-a.ipynb')).toEqual({ cells: [] });
});

test('afterwards it is opened as the reader left it', async () => {
  const { disk, saved } = files(['work/01-a.ipynb']);
  expect(await ownCopy(disk, lessons, '01-a', 'work')).toBe('work/01-a.ipynb');
  expect(saved.size).toBe(0);
  expect(lessons).not.toHaveBeenCalled();
});

test('a file that cannot be looked at is no missing one', async () => {
  const { disk, saved } = files([], 403);
  await expect(ownCopy(disk, lessons, '01-a', '')).rejects.toThrow();
  expect(saved.size).toBe(0);
});

test('a lesson that the server does not have is said', async () => {
  const { disk } = files([]);
  await expect(ownCopy(disk, lessons, '09-z', '')).rejects.toThrow('no lesson 09-z');
});
