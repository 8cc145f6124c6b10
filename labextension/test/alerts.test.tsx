/** Alerts and forecasts: the words of the Python side, what a person sees, and what pressing does. */

import * as React from 'react';
import { act } from 'react';
import { createRoot, Root } from 'react-dom/client';

import { AlertsView } from '../src/alertsView';
import { alertWords, forecastWords } from '../src/alertWords';
import { EMPTY, reduce } from '../src/model';
import { statusText } from '../src/statusText';
import { english } from '../src/text';
import { ClusterStatus } from '../src/types';
import { fixtures, settle, status as event } from './fixtures';

const status = fixtures.alerts.status as unknown as ClusterStatus;

let host: HTMLDivElement;
let root: Root;

beforeEach(() => {
  host = document.createElement('div');
  document.body.append(host);
  root = createRoot(host);
});

afterEach(() => {
  act(() => root.unmount());
  host.remove();
});

function draw(
  shown: ClusterStatus,
  acknowledge: (alert: string) => Promise<unknown> = () => Promise.resolve()
): void {
  act(() => root.render(<AlertsView status={shown} trans={english} acknowledge={acknowledge} />));
}

test('words are those of the Python side', () => {
  expect(status.alerts.map(alert => alertWords(alert, status, english))).toEqual(fixtures.alerts.alerts);
  expect(status.forecasts.map(one => forecastWords(one, status, english))).toEqual(fixtures.alerts.forecasts);
});

test('nothing is shown where nothing is too much', () => {
  draw({ ...status, alerts: [], forecasts: [] });
  expect(host.innerHTML).toBe('');
});

test('every alert and every forecast has a line, and what was acknowledged has no button', () => {
  draw(status);
  expect(host.querySelectorAll('li')).toHaveLength(5);
  expect(host.querySelectorAll('button')).toHaveLength(2);
  expect(host.textContent).toContain('predicted, 90 % interval 31 s to 55 s');
});

test('pressing tells which alert was seen', async () => {
  const seen: string[] = [];
  draw(status, alert => {
    seen.push(alert);
    return Promise.resolve();
  });
  await act(async () => {
    host.querySelector('button')?.click();
    await settle();
  });
  expect(seen).toEqual(['bbb2-1']);
  expect(host.querySelector('.jp-ExoLab-refusal')).toBeNull();
});

test('what could not be told is said', async () => {
  draw(status, () => Promise.reject(new Error('kernel-2 did not answer')));
  await act(async () => {
    host.querySelector('button')?.click();
    await settle();
  });
  expect(host.querySelector('.jp-ExoLab-refusal')?.textContent).toContain('did not answer');
});

test('what is read out has no figures that change all the time', () => {
  draw(status);
  expect(host.querySelector('[role="status"]')?.textContent).toBe(
    'memory of kernel-2, latency from kernel-1 to kernel-3, memory of kernel-3, compute use of gone4567'
  );
});

test('the status bar counts what nobody has acknowledged, and what is predicted', () => {
  const text = statusText(reduce(EMPTY, { ...event, status }), english);
  expect(text).toContain('\u25b2 2 alerts');
  expect(text).toContain('\u25f7 2 predicted');
  expect(statusText(reduce(EMPTY, event), english)).not.toContain('alert');
});
