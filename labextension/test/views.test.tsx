/** What a person finds in the views: by eye, by keyboard, by screen reader. */

import * as React from 'react';
import { act } from 'react';
import { createRoot, Root } from 'react-dom/client';

import { GenerationView } from '../src/generationView';
import { Ask } from '../src/link';
import { ClusterModel, EMPTY, Phase, reduce, State } from '../src/model';
import { Empty, PanelView } from '../src/panelView';
import { PlacementStill, PlacementView } from '../src/placementView';
import { Connection } from '../src/pool';
import { ServerWatch } from '../src/serverWatch';
import { english } from '../src/text';
import { TopologyView } from '../src/topologyView';
import { Tuning } from '../src/tuning';
import { ClusterStatus, GenerationStats, PanelAnswer, Prediction, ServerFacts } from '../src/types';
import { sampleModel, samplePlan, sampleState, settle, status, tokens } from './fixtures';
import { facts, FakeSocket } from './server';

let host: HTMLDivElement;
let root: Root;

let complaints: jest.SpyInstance;

beforeEach(() => {
  complaints = jest.spyOn(console, 'error');
  host = document.createElement('div');
  document.body.append(host);
  root = createRoot(host);
});

afterEach(async () => {
  await act(settle);
  act(() => root.unmount());
  host.remove();
  expect(complaints).not.toHaveBeenCalled();
  complaints.mockRestore();
});

function draw(element: React.ReactElement): void {
  act(() => root.render(element));
}

async function key(target: Element, name: string, type = 'keydown'): Promise<void> {
  await act(async () => {
    target.dispatchEvent(new KeyboardEvent(type, { key: name, bubbles: true, cancelable: true }));
    await settle();
  });
}

function find(selector: string): Element {
  const found = host.querySelector(selector);
  if (found === null) {
    throw new Error(`nothing is ${selector} in ${host.innerHTML}`);
  }
  return found;
}

function button(text: string): HTMLButtonElement {
  const found = [...host.querySelectorAll('button')].find(one => one.textContent === text);
  if (found === undefined) {
    throw new Error(`no button says ${text}`);
  }
  return found;
}

const running = reduce(
  reduce(sampleState(), {
    type: 'generation-start',
    request: 'r',
    model: samplePlan().model,
    epoch: 3,
    devices: samplePlan().devices,
    prompt_tokens: 1
  }),
  { type: 'tokens', request: 'r', tokens }
);

describe('topology', () => {
  test('says every device, what it holds, and what is emulated', () => {
    draw(<TopologyView state={sampleState()} trans={english} />);
    const names = [...host.querySelectorAll('[role=button]')].map(node => node.getAttribute('aria-label'));
    expect(names).toEqual([
      'kernel-1, memory 8.00 GiB, load 30 % \u00b7 layers 0\u201313, this kernel',
      'kernel-2, memory 4.00 GiB, load 60 % \u00b7 layers 14\u201323',
      'kernel-3, memory 91.6 MiB, load 90 % \u00b7 layers 24\u201329, emulated'
    ]);
    expect(find('svg.jp-ExoLab-graph').getAttribute('aria-label')).toBe(
      '3 nodes; SmolLM2-135M goes round kernel-1, kernel-2, kernel-3'
    );
  });

  test('a card tells the temperature of a device that has a sensor, and of no other', async () => {
    const state = sampleState();
    const status = state.status as ClusterStatus;
    const nodes = status.nodes.map((node, i) => (i === 0 ? { ...node, temperature_c: 61.4 } : node));
    draw(<TopologyView state={{ ...state, status: { ...status, nodes } }} trans={english} />);
    const [first, second] = host.querySelectorAll<SVGGElement>('[role=button]');
    await key(first, 'Enter');
    expect(find('.jp-ExoLab-card').textContent).toContain('Temperature61 °C');
    await key(first, 'ArrowRight');
    expect(second).toBe(document.activeElement);
    expect(find('.jp-ExoLab-card').textContent).not.toContain('Temperature');
  });

  test('one device is reached with Tab, the others with arrows, round and round', async () => {
    draw(<TopologyView state={sampleState()} trans={english} />);
    const nodes = [...host.querySelectorAll<SVGGElement>('[role=button]')];
    expect(nodes.map(node => node.getAttribute('tabindex'))).toEqual(['0', '-1', '-1']);
    nodes[0].focus();
    await key(nodes[0], 'ArrowRight');
    expect(document.activeElement).toBe(nodes[1]);
    expect(find('.jp-ExoLab-card').getAttribute('aria-label')).toBe('About kernel-2');
    await key(nodes[1], 'ArrowLeft');
    await key(nodes[0], 'ArrowLeft');
    expect(document.activeElement).toBe(nodes[2]);
    expect(find('.jp-ExoLab-card').textContent).toContain('memory 96 MB, 2x slower');
    await key(nodes[2], 'Escape');
    expect(host.querySelector('.jp-ExoLab-card')).toBeNull();
    await key(nodes[2], 'Enter');
    expect(nodes[2].getAttribute('aria-pressed')).toBe('true');
  });

  test('the table says what the picture shows', () => {
    draw(<TopologyView state={sampleState()} trans={english} />);
    act(() => button('Show as a table').click());
    const rows = [...host.querySelectorAll('tbody tr')].map(row => row.textContent ?? '');
    expect(rows).toHaveLength(3);
    expect(rows[0]).toContain('stage 1: embedding, layers 0\u201313');
    expect(rows[0]).toContain('kernel-2: loopback, 180 \u00b5s, 25.6 Gbit/s');
    expect(rows[2]).toContain('stage 3: layers 24\u201329, head');
    expect(rows[2]).toContain('emulated');
  });

  test('what was not measured is not shown', () => {
    draw(<TopologyView state={sampleState()} trans={english} />);
    const titles = [...host.querySelectorAll('title')].map(title => title.textContent);
    expect(titles).toContain('kernel-2 \u2192 kernel-3');
  });

  test('while tokens run every stage is lit in its share of the turn, and still where no motion is wanted', () => {
    draw(<TopologyView state={running} trans={english} />);
    expect(host.querySelectorAll('.jp-ExoLab-hop.jp-mod-running')).toHaveLength(3);
    expect(host.querySelectorAll('animate')).toHaveLength(3);
    act(() => root.render(<span />));
    const query = { matches: true, addEventListener: () => undefined, removeEventListener: () => undefined };
    window.matchMedia = (() => query) as unknown as typeof window.matchMedia;
    try {
      draw(<TopologyView state={running} trans={english} />);
      expect(host.querySelectorAll('animate')).toHaveLength(0);
      expect(host.querySelectorAll('.jp-ExoLab-device.jp-mod-running')).toHaveLength(3);
    } finally {
      delete (window as { matchMedia?: unknown }).matchMedia;
    }
  });

  test('the ring stays lit when the answer goes on over another plan', () => {
    const inner = status.status;
    const models = inner?.models.map(one => ({ ...one, plan: { ...one.plan, epoch: one.plan.epoch + 1 } }));
    const replanned = reduce(running, { ...status, status: inner && { ...inner, models: models ?? [] } });
    const { request = '', epoch = 0, devices = [] } = running.generation ?? {};
    const moved = reduce(replanned, {
      type: 'generation-moved',
      request,
      epoch: epoch + 1,
      devices,
      index: 9
    });
    draw(<TopologyView state={moved} trans={english} />);
    expect(host.querySelectorAll('.jp-ExoLab-hop.jp-mod-running')).toHaveLength(3);
    draw(<TopologyView state={replanned} trans={english} />); // it ends on the plan on which it began
    expect(host.querySelectorAll('.jp-ExoLab-hop.jp-mod-running')).toHaveLength(0);
  });

  test('a lost device stays in the picture and is called lost', () => {
    const inner = status.status;
    const nodes =
      inner?.nodes.map((node, i) => (i === 1 ? { ...node, liveness: 'lost' as const } : node)) ?? [];
    draw(
      <TopologyView
        state={reduce(sampleState(), { ...status, status: inner && { ...inner, nodes } })}
        trans={english}
      />
    );
    expect(host.querySelectorAll('[role=button]')[1].getAttribute('aria-label')).toContain('lost');
    expect(find('[role=log]').textContent).toBe('kernel-2 is gone');
  });

  test('a name from another machine cannot bring markup or turn the writing round', () => {
    const inner = status.status;
    const name = '<img src=x onerror=alert(1)>\u202egnp';
    const nodes = inner?.nodes.map(node => ({ ...node, device: { ...node.device, name } })) ?? [];
    draw(
      <TopologyView
        state={reduce(EMPTY, { ...status, status: inner && { ...inner, nodes } })}
        trans={english}
      />
    );
    expect(host.querySelector('img')).toBeNull();
    expect(host.textContent).not.toContain('\u202e');
  });
});

describe('placement', () => {
  const judged: Ask[] = [];

  /** The third device has no room for more than eight layers. */
  const kernel = async (ask: Ask): Promise<PanelAnswer> => {
    judged.push(ask);
    if (ask.type !== 'what-if') {
      throw new Error('not asked here');
    }
    const layers = ask.change.layers ?? [];
    const fits = layers[2] <= 8;
    const prediction: Prediction = {
      devices: ask.change.devices.map((device, i) => ({
        device,
        layers: layers[i],
        memory_needed_bytes: 1024 * layers[i],
        memory_available_bytes: i === 2 ? 8192 : 1e9,
        stage_s: 0.001 * layers[i]
      })),
      fits,
      reason: fits ? '' : 'kernel-3 has 8.00 KiB and needs more.',
      tokens_per_s: 100 - layers[0],
      ttft_s: 0.5,
      prompt_tokens: 512,
      strategy: 'manual',
      context_tokens: 4096,
      origin: 'assumed',
      notes: []
    };
    return Promise.resolve({ type: 'predicted', id: '', prediction });
  };

  async function drawn(model: ClusterModel = sampleModel()): Promise<Tuning> {
    judged.length = 0;
    const tuning = new Tuning(model, kernel);
    await act(async () => {
      root.render(<PlacementView tuning={tuning} state={model.state} trans={english} />);
      await settle();
    });
    return tuning;
  }

  async function wait(): Promise<void> {
    await act(settle);
  }

  /** Questions about another plan than the loaded one, since so many. */
  const commits = (since: number): number =>
    judged.slice(since).filter(ask => ask.type === 'what-if' && ask.change.layers?.join() !== '14,10,6')
      .length;

  const sliders = (): Element[] => [...host.querySelectorAll('[role=slider]')];

  test('boundaries are sliders that say what they mean', async () => {
    await drawn();
    expect(sliders()).toHaveLength(2);
    const [first] = sliders();
    expect(first.getAttribute('aria-label')).toBe('Boundary between kernel-1 and kernel-2');
    expect(first.getAttribute('aria-valuemin')).toBe('0');
    expect(first.getAttribute('aria-valuemax')).toBe('24');
    expect(first.getAttribute('aria-valuenow')).toBe('14');
    expect(first.getAttribute('aria-valuetext')).toBe(
      'kernel-1 14 layers, 59.4 MiB; kernel-2 10 layers, 21.9 MiB'
    );
    expect(first.getAttribute('tabindex')).toBe('0');
  });

  test('what is judged says for how long a context', async () => {
    await drawn();
    expect(host.textContent).toContain('Memory is judged for 4096 tokens of prompt and answer.');
  });

  test.each([
    [43, '50 % below the prediction'],
    [94.6, '10 % above the prediction'],
    [86.2, 'as predicted']
  ])('%d tokens a second measured are told beside those predicted', async (rate, said) => {
    const model = sampleModel();
    const stats = {
      request: 'r',
      model: samplePlan().model,
      plan: samplePlan(),
      tokens_per_s: rate,
      notices: []
    };
    model.dispatch({ type: 'generation-end', stats: stats as unknown as GenerationStats });
    await drawn(model);
    await wait();
    expect(host.querySelector('table')?.textContent).toContain(`${rate.toFixed(1)} tok/s`);
    expect(host.querySelector('table')?.textContent).toContain(said);
  });

  test('without a kernel the strip is there, and nothing to move', () => {
    draw(<PlacementStill state={sampleState()} trans={english} />);
    expect(find('svg').getAttribute('aria-label')).toContain('kernel-1 holds');
    expect(sliders()).toHaveLength(0);
    expect(host.querySelectorAll('button')).toHaveLength(0);
    draw(<PlacementStill state={EMPTY} trans={english} />);
    expect(host.textContent).toBe('');
  });

  test.each([
    ['ArrowRight', '15'],
    ['ArrowUp', '15'],
    ['ArrowLeft', '13'],
    ['ArrowDown', '13'],
    ['PageUp', '19'],
    ['PageDown', '9'],
    ['Home', '0'],
    ['End', '24']
  ])('%s moves a boundary to %s', async (name, value) => {
    await drawn();
    await key(sliders()[0], name);
    expect(sliders()[0].getAttribute('aria-valuenow')).toBe(value);
  });

  test('keys move at once, and commit once when the key is let go', async () => {
    const tuning = await drawn();
    const slider = sliders()[0];
    await key(slider, 'ArrowRight');
    await key(slider, 'ArrowRight');
    expect(slider.getAttribute('aria-valuenow')).toBe('16');
    await wait();
    const asked = judged.length;
    await key(slider, 'ArrowRight', 'keyup');
    await wait();
    expect(commits(asked)).toBe(1);
    expect(tuning.state.draft?.layers).toEqual([16, 8, 6]);
    expect(host.textContent).toContain('84.0 tok/s');
    expect(button('Apply').disabled).toBe(false);
  });

  test('an infeasible position is refused with the reason, said aloud, and goes back', async () => {
    await drawn();
    const slider = sliders()[1];
    await key(slider, 'PageDown');
    await wait();
    expect(find('.jp-ExoLab-strip').classList.contains('jp-mod-refused')).toBe(true);
    expect(button('Apply').disabled).toBe(true);
    await key(slider, 'PageDown', 'keyup');
    await wait();
    expect(slider.getAttribute('aria-valuenow')).toBe('24');
    expect(find('.jp-ExoLab-refusal').textContent).toContain('kernel-3 has 8.00 KiB and needs more.');
    expect(find('[role=status]').textContent).toBe('kernel-3 has 8.00 KiB and needs more.');
  });

  test('Escape gives up a move', async () => {
    await drawn();
    await key(sliders()[0], 'End');
    await key(sliders()[0], 'Escape');
    expect(sliders()[0].getAttribute('aria-valuenow')).toBe('14');
  });

  test('a pointer drags a boundary, and lets go once', async () => {
    await drawn();
    const slider = sliders()[0];
    const point = (type: string, clientX: number): Promise<void> =>
      act(async () => {
        const event = new MouseEvent(type, { bubbles: true, cancelable: true, button: 0, clientX });
        Object.defineProperty(event, 'pointerId', { value: 1 });
        slider.dispatchEvent(event);
        await settle();
      });
    await point('pointerdown', 300);
    await point('pointermove', 300 - 60);
    const now = Number(slider.getAttribute('aria-valuenow'));
    expect(now).toBeLessThan(14);
    expect(now).toBeGreaterThan(8);
    await wait();
    const asked = judged.length;
    await point('pointerup', 240);
    await point('pointermove', 0); // no longer held
    await wait();
    expect(commits(asked)).toBe(1);
    expect(slider.getAttribute('aria-valuenow')).toBe(String(now));
  });

  test('figures say where they come from, and the draft stands beside the loaded plan', async () => {
    await drawn();
    await key(sliders()[0], 'ArrowRight');
    await wait();
    const rows = [...host.querySelectorAll('table')][0].querySelectorAll('tbody tr');
    expect([...rows].map(row => row.textContent)).toEqual([
      'loaded (plan 3)86.0 tok/sfirst after 500 ms',
      'draft85.0 tok/sfirst after 500 ms'
    ]);
    expect(host.querySelectorAll('.jp-mod-predicted').length).toBeGreaterThan(0);
    expect(host.textContent).toContain('Predictions rest on coefficients that are: assumed.');
  });

  /** Layers of the strip whose time is said, and the last column of the memory table. */
  const times = (): readonly [number, (string | null)[]] => [
    [...host.querySelectorAll('.jp-ExoLab-strip title')].filter(one => one.textContent?.includes('measured'))
      .length,
    [...host.querySelectorAll('.jp-ExoLab-memory tbody tr')].map(
      row => row.lastElementChild?.textContent ?? null
    )
  ];

  test('a draft shows measured time of the layers and devices that it leaves as they are, and of no others', async () => {
    await drawn(new ClusterModel(running));
    expect(times()[0]).toBe(30);
    expect(times()[1].every(text => text?.includes('measured'))).toBe(true);
    await key(sliders()[0], 'ArrowRight');
    expect(times()[0]).toBe(29); // layer 14 was never measured on kernel-1
    expect(times()[1].map(text => text?.includes('measured'))).toEqual([false, false, true]);
  });

  test('an answer over an earlier plan has no measured time here', async () => {
    const inner = status.status;
    const models = inner?.models.map(one => ({ ...one, plan: { ...one.plan, epoch: 4 } })) ?? [];
    await drawn(new ClusterModel(reduce(running, { ...status, status: inner && { ...inner, models } })));
    expect(times()[0]).toBe(0);
    expect(host.querySelectorAll('.jp-ExoLab-heat')).toHaveLength(0);
    expect(times()[1].join('')).not.toContain('measured');
  });

  test('a device without layers is shown and can be taken in', async () => {
    const inner = status.status;
    const device = inner && { ...inner.nodes[1].device, id: 'ddd444', name: 'kernel-4' };
    const model = new ClusterModel(
      reduce(EMPTY, {
        ...status,
        status: inner && device && { ...inner, nodes: [...inner.nodes, { ...inner.nodes[1], device }] }
      })
    );
    const tuning = await drawn(model);
    expect(host.querySelectorAll('.jp-ExoLab-stub')).toHaveLength(1);
    await key(sliders()[2], 'ArrowLeft');
    await wait();
    expect(tuning.state.draft?.layers).toEqual([14, 10, 5, 1]);
    expect(host.querySelectorAll('.jp-ExoLab-stub')).toHaveLength(0);
  });

  test('without a model it says what to do', () => {
    const inner = status.status;
    const model = new ClusterModel(reduce(EMPTY, { ...status, status: inner && { ...inner, models: [] } }));
    draw(<PlacementView tuning={new Tuning(model, kernel)} state={model.state} trans={english} />);
    expect(host.textContent).toContain('Load one with %exo load.');
  });
});

describe('answer', () => {
  test('shows its tokens, how sure each was, and what else it might have been', () => {
    draw(<GenerationView state={running} trans={english} stop={() => undefined} />);
    const spans = [...host.querySelectorAll('.jp-ExoLab-token')];
    expect(spans.map(span => span.textContent).join('')).toBe(' Paris.');
    expect(spans[0].getAttribute('title')).toContain('probability 90 %');
    expect(spans[0].getAttribute('title')).toContain('London');
  });

  const many = (count: number): State =>
    reduce(
      { ...running, generation: running.generation && { ...running.generation, tokens: [] } },
      {
        type: 'tokens',
        request: 'r',
        tokens: Array.from({ length: count }, (_, index) => ({ ...tokens[0], index, text: ` ${index}` }))
      }
    );

  test('every token is reached by keyboard, and the line under the text says what its tooltip says', async () => {
    draw(<GenerationView state={many(5)} trans={english} stop={() => undefined} />);
    const spans = [...host.querySelectorAll<HTMLElement>('.jp-ExoLab-token')];
    const stops = (): (string | null)[] => spans.map(span => span.getAttribute('tabindex'));
    expect(stops()).toEqual(['-1', '-1', '-1', '-1', '0']);
    act(() => spans[4].focus());
    await key(spans[4], 'ArrowLeft');
    expect(document.activeElement).toBe(spans[3]);
    expect(stops()).toEqual(['-1', '-1', '-1', '0', '-1']);
    const said = '"3": probability 90 %. Most likely there: "Paris" 90 %, "London" 8.2 %.';
    expect(document.getElementById(spans[3].getAttribute('aria-describedby') ?? '')?.textContent).toBe(said);
    await key(spans[3], 'Home');
    await key(spans[0], 'ArrowLeft'); // there is none before it
    expect(document.activeElement).toBe(spans[0]);
    await key(spans[0], 'End');
    expect(document.activeElement).toBe(spans[4]);
    act(() => spans[1].click());
    expect(document.activeElement).toBe(spans[1]);
  });

  test('a token without text is passed over', async () => {
    const [first, second] = tokens;
    const state = reduce(many(0), {
      type: 'tokens',
      request: 'r',
      tokens: [first, { ...second, text: '' }, { ...second, index: 2 }]
    });
    draw(<GenerationView state={state} trans={english} stop={() => undefined} />);
    const spans = [...host.querySelectorAll<HTMLElement>('.jp-ExoLab-token')];
    act(() => spans[2].focus());
    await key(spans[2], 'ArrowLeft');
    expect(document.activeElement).toBe(spans[0]);
  });

  test('an answer that goes on does not move from under the token that was chosen', async () => {
    const state = many(3);
    draw(<GenerationView state={state} trans={english} stop={() => undefined} />);
    const [first] = host.querySelectorAll<HTMLElement>('.jp-ExoLab-token');
    act(() => first.focus());
    const more = reduce(state, { type: 'tokens', request: 'r', tokens: [{ ...tokens[1], index: 3 }] });
    draw(<GenerationView state={more} trans={english} stop={() => undefined} />);
    expect(document.activeElement).toBe(first);
    expect(first.getAttribute('tabindex')).toBe('0');
    expect(host.textContent).toContain('"0": probability');
  });

  test('tokens that come leave those that were there before alone', () => {
    let drawn = 0;
    const counting = {
      ...english,
      __: (message: string, ...values: unknown[]): string => {
        drawn += message.startsWith('probability') ? 1 : 0;
        return english.__(message, ...values);
      }
    };
    const state = many(1000);
    draw(<GenerationView state={state} trans={counting} stop={() => undefined} />);
    expect(drawn).toBe(1000);
    drawn = 0;
    const more = reduce(state, { type: 'tokens', request: 'r', tokens: [{ ...tokens[1], index: 1000 }] });
    draw(<GenerationView state={more} trans={counting} stop={() => undefined} />);
    expect(drawn).toBeLessThanOrEqual(2); // the new one, and the one that Tab led to before
    expect(host.querySelectorAll('.jp-ExoLab-token')).toHaveLength(1001);
  });

  test('of a very long answer the end is shown', () => {
    draw(<GenerationView state={many(4000)} trans={english} stop={() => undefined} />);
    const shown = host.querySelectorAll('.jp-ExoLab-token');
    expect(shown.length).toBeGreaterThanOrEqual(1500);
    expect(shown.length).toBeLessThan(1600);
    expect(shown[shown.length - 1].textContent).toBe(' 3999');
  });

  test('Stop is there while it runs, and only then', () => {
    const stop = jest.fn();
    draw(<GenerationView state={running} trans={english} stop={stop} />);
    act(() => button('Stop').click());
    expect(stop).toHaveBeenCalledTimes(1);
    const generation = running.generation;
    const stats = {
      request: 'r',
      model: 'm',
      plan: samplePlan(),
      prompt_tokens: 1,
      prompt_tokens_reused: 0,
      tokens: 2,
      ttft_s: 0.2,
      total_s: 1,
      tokens_per_s: 50,
      prefill_tokens_per_s: null,
      stage_compute_s: [],
      finish: 'cancelled' as const,
      notices: []
    };
    const over = { ...running, generation: generation && { ...generation, stats } };
    draw(<GenerationView state={over} trans={english} stop={stop} />);
    expect(host.querySelector('button')).toBeNull();
    expect(host.textContent).toContain('stopped');
  });
});

describe('panel', () => {
  const actions = { connect: jest.fn(), look: jest.fn(), insert: jest.fn(), openDashboard: null };

  test('follows no kernel: says what to do', () => {
    draw(<PanelView connection={null} actions={actions} trans={english} />);
    expect(host.textContent).toContain('Open a notebook with a Python kernel');
  });

  test.each<[Phase, string, boolean]>([
    ['other-language', 'Its kernel runs R.', false],
    ['not-loaded', 'This kernel is in no cluster yet.', true],
    ['not-a-node', 'exo_lab is loaded in this kernel', true],
    ['connecting', 'Asking the kernel', false],
    ['restarting', 'it has left the cluster', false],
    ['dead', 'Restart it', false]
  ])('%s is explained', (phase, text, connectable) => {
    draw(<Empty phase={phase} subject="a.ipynb" language="R" actions={actions} trans={english} />);
    expect(host.textContent).toContain(text);
    const offered = [...host.querySelectorAll('button')].some(
      one => one.textContent === 'Make this kernel a node'
    );
    expect(offered).toBe(connectable);
  });

  test('the button asks to connect, and nothing happens before it is pressed', () => {
    actions.connect.mockClear();
    draw(<Empty phase="not-loaded" subject="a.ipynb" language="" actions={actions} trans={english} />);
    expect(actions.connect).not.toHaveBeenCalled();
    act(() => button('Make this kernel a node').click());
    expect(actions.connect).toHaveBeenCalledTimes(1);
  });

  test('a kernel with another protocol is told apart from one without a cluster', () => {
    const model = new ClusterModel(reduce(EMPTY, { ...status, protocol: 9, software: 'exo_lab 9.9' }));
    const link = { model, kernel: { id: 'k' } };
    const connection = { link, tuning: new Tuning(model, jest.fn()) } as unknown as Connection;
    draw(<PanelView connection={connection} actions={actions} trans={english} />);
    expect(host.textContent).toContain('exo_lab 9.9, which speaks another version');
  });
});

describe('what the server knows', () => {
  const actions = { connect: jest.fn(), look: jest.fn(), insert: jest.fn(), openDashboard: null };

  function served(...said: ServerFacts[]): ServerWatch {
    return new ServerWatch(() => {
      const socket = new FakeSocket();
      queueMicrotask(() => said.forEach(one => socket.say(one)));
      return socket;
    });
  }

  async function drawn(server: ServerWatch): Promise<string> {
    draw(<PanelView connection={null} server={server} actions={actions} trans={english} />);
    await act(settle);
    return host.textContent ?? '';
  }

  test('an empty panel shows the nodes and models that are there already', async () => {
    const text = await drawn(served(facts(['kernel-1', 'gpu-box'], ['smollm2-135m'])));
    expect(text).toContain('kernel-1 tcp://127.0.0.1:41000 \u00b7 running \u00b7 loopback registry');
    expect(text).toContain('gpu-box tcp://127.0.0.1:41001 \u00b7 not asked yet \u00b7 peers.toml');
    expect(text).toContain('smollm2-135m 93.8 MiB');
  });

  test('it says what to do where there is nothing, and what is wrong with the peers file', async () => {
    const none = facts([]);
    const text = await drawn(
      served({ ...none, nodes: { nodes: [], problems: ['peers.toml, line 6: field \u202eport'] } })
    );
    expect(text).toContain('None runs on this machine');
    expect(text).toContain('it knows smollm2-135m');
    expect(text).toContain('line 6');
    expect(text).not.toContain('\u202e');
  });

  test('a server without the extension changes nothing', async () => {
    const text = await drawn(served());
    expect(text).toContain('No kernel');
    expect(text).not.toContain('Known nodes');
  });
});
