/** The server's facts: asked while somebody looks, believed in one version only, and missed by nobody where there are none. */

import { ServerWatch, Socket, openSocket } from '../src/serverWatch';
import { facts, FakeSocket } from './server';

function watched(): { server: ServerWatch; sockets: FakeSocket[] } {
  const sockets: FakeSocket[] = [];
  const open = (): Socket => {
    const made = new FakeSocket();
    sockets.push(made);
    return made;
  };
  return { server: new ServerWatch(open, 1000), sockets };
}

beforeEach(() => {
  jest.useFakeTimers();
});

afterEach(() => {
  jest.useRealTimers();
});

test('nothing is asked before somebody looks, and nothing after the last one has looked away', () => {
  const { server, sockets } = watched();
  expect(sockets).toHaveLength(0);
  const first = server.watch();
  const second = server.watch();
  expect(sockets).toHaveLength(1);
  first();
  first();
  expect(sockets[0].closed).toBe(false);
  second();
  expect(sockets[0].closed).toBe(true);
  jest.runAllTimers();
  expect(sockets).toHaveLength(1);
});

test('what is said is kept and signalled', () => {
  const { server, sockets } = watched();
  const heard = jest.fn();
  server.changed.connect(heard);
  server.watch();
  sockets[0].say(facts(['kernel-1']));
  expect(heard).toHaveBeenCalledTimes(1);
  expect(server.facts?.nodes.nodes[0].name).toBe('kernel-1');
});

test('another version is not believed, nor is anything else', () => {
  const { server, sockets } = watched();
  server.watch();
  sockets[0].say({ ...facts([]), version: { version: '9', python: '3', protocol: 99 } });
  sockets[0].say({ type: 'other' });
  sockets[0].say(null);
  expect(server.facts).toBeNull();
});

test('a server that has answered is asked again when it comes back, one that never did is left alone', () => {
  const { server, sockets } = watched();
  server.watch();
  sockets[0].end();
  jest.runAllTimers();
  expect(sockets).toHaveLength(1);
  const again = watched();
  const stop = again.server.watch();
  again.sockets[0].say(facts([]));
  again.sockets[0].end();
  jest.advanceTimersByTime(1000);
  expect(again.sockets).toHaveLength(2);
  again.sockets[1].end();
  stop();
  jest.runAllTimers();
  expect(again.sockets).toHaveLength(2);
});

test('the address is below the base URL, with the token where it has to be said', () => {
  const urls: string[] = [];
  class Recorder extends FakeSocket {
    constructor(url: string) {
      super();
      urls.push(url);
    }
  }
  const settings = { wsUrl: 'ws://here/base/', token: 'a b', appendToken: true, WebSocket: Recorder };
  openSocket(settings as unknown as Parameters<typeof openSocket>[0]);
  openSocket({ ...settings, appendToken: false } as unknown as Parameters<typeof openSocket>[0]);
  expect(urls).toEqual(['ws://here/base/exo-lab/api/watch?token=a%20b', 'ws://here/base/exo-lab/api/watch']);
});
