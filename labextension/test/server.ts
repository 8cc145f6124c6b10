/** A make-believe server extension. */

import { Socket } from '../src/serverWatch';
import { SERVER_PROTOCOL, ServerFacts } from '../src/types';

export class FakeSocket implements Socket {
  onmessage: WebSocket['onmessage'] = null;
  onclose: WebSocket['onclose'] = null;
  closed = false;

  close(): void {
    this.closed = true;
    this.end();
  }

  say(message: unknown): void {
    this.onmessage?.call(this as unknown as WebSocket, { data: JSON.stringify(message) } as MessageEvent);
  }

  end(): void {
    this.onclose?.call(this as unknown as WebSocket, {} as CloseEvent);
  }
}

export function facts(names: ReadonlyArray<string>, models: ReadonlyArray<string> = []): ServerFacts {
  return {
    type: 'facts',
    version: { version: '0.1.0', python: '3.11.7', protocol: SERVER_PROTOCOL },
    nodes: {
      nodes: names.map((name, i) => ({
        name,
        address: `tcp://127.0.0.1:4100${i}`,
        source: i === 0 ? 'loopback registry' : 'peers.toml',
        running: i === 0 ? true : null,
        pid: i === 0 ? 7 : null
      })),
      problems: []
    },
    models: {
      models: models.map(name => ({ name, size_bytes: 98_362_432, about: 'Q4_1, Apache-2.0' })),
      fetchable: ['smollm2-135m']
    }
  };
}
