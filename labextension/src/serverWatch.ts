/**
 * What the Jupyter server knows without a kernel: nodes and models, over the web socket of exo_lab's server extension.
 * The socket is open only while somebody looks. A server without the extension says nothing, and nothing is shown.
 */

import { URLExt } from '@jupyterlab/coreutils';
import type { ServerConnection } from '@jupyterlab/services';
import { ISignal, Signal } from '@lumino/signaling';

import { SERVER_BASE, SERVER_PROTOCOL, ServerFacts } from './types';

/** What is used of a browser's socket. */
export type Socket = Pick<WebSocket, 'onmessage' | 'onclose' | 'close'>;

const AGAIN_MS = 15_000; // a server that was restarted is back by then

export class ServerWatch {
  constructor(
    private readonly _open: () => Socket,
    private readonly _againMs = AGAIN_MS
  ) {}

  /** What was said last; null while nothing was, or if it was another version that spoke. */
  get facts(): ServerFacts | null {
    return this._facts;
  }

  get changed(): ISignal<this, void> {
    return this._changed;
  }

  /** Look, until the returned function is called. */
  watch(): () => void {
    this._watching += 1;
    if (this._watching === 1) {
      this._connect();
    }
    let over = false;
    return () => {
      if (!over) {
        over = true;
        this._watching -= 1;
        if (this._watching === 0) {
          this._disconnect();
        }
      }
    };
  }

  private _connect(): void {
    let socket: Socket;
    try {
      socket = this._open();
    } catch (error) {
      console.warn('exo_lab: the server cannot be asked what it knows.', error);
      return;
    }
    this._socket = socket;
    socket.onmessage = event => {
      const facts = read(event.data);
      if (facts !== null) {
        this._facts = facts;
        this._changed.emit();
      }
    };
    socket.onclose = () => {
      if (this._socket !== socket) {
        return;
      }
      this._socket = null;
      // A server that never answered has no extension of ours; one that did is asked again.
      if (this._facts !== null && this._watching > 0) {
        this._timer = setTimeout(() => this._connect(), this._againMs);
      }
    };
  }

  private _disconnect(): void {
    clearTimeout(this._timer);
    const socket = this._socket;
    this._socket = null;
    socket?.close();
  }

  private _facts: ServerFacts | null = null;
  private _socket: Socket | null = null;
  private _watching = 0;
  private _timer: ReturnType<typeof setTimeout> | undefined;
  private readonly _changed = new Signal<this, void>(this);
}

/** The socket of the server that this page came from. */
export function openSocket(settings: ServerConnection.ISettings): Socket {
  const url = URLExt.join(settings.wsUrl, SERVER_BASE, 'watch');
  const query =
    settings.appendToken && settings.token !== '' ? `?token=${encodeURIComponent(settings.token)}` : '';
  return new settings.WebSocket(url + query);
}

function read(data: unknown): ServerFacts | null {
  if (typeof data !== 'string') {
    return null;
  }
  const said = JSON.parse(data) as Partial<ServerFacts> | null;
  return said?.type === 'facts' && said.version?.protocol === SERVER_PROTOCOL ? (said as ServerFacts) : null;
}
