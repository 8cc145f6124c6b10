/**
 * One kernel's comm, and the model that it fills. One helper for everything that is sent and received.
 *
 * The comm runs on a subshell where the kernel has them, so that Stop gets through while a cell runs. After a restart it
 * comes back by itself as soon as exo_lab is loaded again. It starts nothing in the kernel.
 *
 * The kernel lets go of a front end that asks nothing for a while. So a question goes out now and then, with what the
 * kernel pushes as the clock: a browser lets the timers of a hidden page sleep, and not its messages.
 */

import type { Kernel, KernelMessage } from '@jupyterlab/services';
import type { JSONValue } from '@lumino/coreutils';

import { ClusterModel, Phase } from './model';
import { Goodbye, PanelAnswer, PanelEvent, PanelRequest, RENEW_S, TARGET } from './types';

type Unsent<R> = R extends PanelRequest ? Omit<R, 'id'> : never;
/** A request before it has an id. */
export type Ask = Unsent<PanelRequest>;

const SUBSHELL_TIMEOUT_MS = 5000;
const ANSWER_TIMEOUT_MS = 15_000;
const APPLY_TIMEOUT_MS = 900_000;

/** The kernel refused, or did not answer; `kind` is the name of its error's class. */
export class KernelProblem extends Error {
  constructor(
    readonly kind: string,
    message: string
  ) {
    super(message);
    this.name = 'KernelProblem';
  }
}

interface Waiting {
  readonly resolve: (answer: PanelAnswer) => void;
  readonly reject: (problem: KernelProblem) => void;
  readonly timer: ReturnType<typeof setTimeout>;
}

export class KernelLink {
  constructor(
    readonly kernel: Kernel.IKernelConnection,
    subject: string
  ) {
    this.model.dispatch({ type: 'attached', subject, language: '', phase: 'connecting' });
    kernel.statusChanged.connect(this._onStatus, this);
    kernel.connectionStatusChanged.connect(this._onConnection, this);
    kernel.iopubMessage.connect(this._onIOPub, this);
    this._ready = kernel.info.then(
      info => {
        this._language = info.language_info.name;
        const phase: Phase = this._python ? 'not-loaded' : 'other-language';
        if (!this._disposed && this._comm === null) {
          this.model.dispatch({ type: 'attached', subject, language: this._language, phase });
        }
      },
      () => undefined // a kernel that is gone before it said what it is: its status tells
    );
  }

  readonly model = new ClusterModel();

  get isDisposed(): boolean {
    return this._disposed;
  }

  /**
   * Open the comm, if it is not open. The kernel answers an unknown target by closing, and logs a line; so this is
   * called when there is a reason to believe that exo_lab is loaded, or when a person asks.
   */
  async attach(): Promise<void> {
    await this._ready;
    if (this._disposed || this._comm !== null || !this._python || this.kernel.isDisposed) {
      return;
    }
    this.model.dispatch({ type: 'phase', phase: 'connecting' });
    const comm = this.kernel.createComm(TARGET);
    this._again = false;
    this._opened = false;
    this._comm = comm;
    comm.onMsg = message => this._received(message.content.data);
    comm.onClose = message => this._refused(comm, message.content.data);
    // The promise never settles for a kernel without subshells, and not before JupyterLab 4.4 has it.
    if (this.kernel.supportsSubshells && 'subshellStarted' in comm) {
      await settled(comm.subshellStarted as Promise<void>, SUBSHELL_TIMEOUT_MS);
    }
    if (this._comm === comm && !comm.isDisposed) {
      this._opened = true;
      this._askedAt = Date.now();
      comm.open({});
    }
  }

  /**
   * A person asks, or the connection was gone for a while: have the kernel say how things are, over another comm where
   * this one is silent. A comm that is still being opened is given up: whatever it waits for may never come.
   */
  async lookAgain(): Promise<void> {
    const comm = this._comm;
    if (comm !== null && this.model.state.phase !== 'connecting') {
      const before = this._heard;
      await this.ask({ type: 'refresh' }).catch(() => undefined);
      if (this._heard !== before) {
        return; // busy, it may be, but there
      }
    }
    if (this._comm === comm) {
      this._giveUp();
    }
    await this.attach();
  }

  /** Ask and wait for the answer. Rejects with a KernelProblem. */
  async ask(ask: Ask): Promise<PanelAnswer> {
    const comm = this._comm;
    if (comm === null || comm.isDisposed) {
      throw new KernelProblem('NotConnected', 'the kernel is not connected');
    }
    this._asked += 1;
    this._askedAt = Date.now();
    const id = `${this._asked}`;
    return new Promise<PanelAnswer>((resolve, reject) => {
      const limit = ask.type === 'apply' ? APPLY_TIMEOUT_MS : ANSWER_TIMEOUT_MS;
      const timer = setTimeout(() => {
        this._waiting.delete(id);
        reject(new KernelProblem('Timeout', `the kernel did not answer within ${limit / 1000} s`));
      }, limit);
      this._waiting.set(id, { resolve, reject, timer });
      comm.send({ ...ask, id } as unknown as JSONValue, undefined, undefined, true);
    });
  }

  /**
   * End the running generation. The comm reaches the kernel while a cell runs; where it does not within a second, the
   * cell is interrupted, as JupyterLab's own stop button does.
   */
  async stop(patienceMs = 1000): Promise<void> {
    const request = this.model.state.generation?.request ?? null;
    const asked = this.ask({ type: 'stop', request }).then(
      () => true,
      () => false
    );
    const heard = await Promise.race([asked, after(patienceMs)]);
    if (heard !== true && !this.kernel.isDisposed) {
      await this.kernel.interrupt();
    }
  }

  dispose(): void {
    if (this._disposed) {
      return;
    }
    this._disposed = true;
    this.kernel.statusChanged.disconnect(this._onStatus, this);
    this.kernel.connectionStatusChanged.disconnect(this._onConnection, this);
    this.kernel.iopubMessage.disconnect(this._onIOPub, this);
    // Nothing can be said over a connection that is gone: the kernel lets go of us, when it has heard nothing for a while.
    this._closed(this._comm, 'no-kernel');
  }

  private get _python(): boolean {
    return this._language === 'python';
  }

  private _received(data: JSONValue): void {
    this._heard += 1;
    if (Date.now() - this._askedAt >= RENEW_S * 1000) {
      void this.ask({ type: 'refresh' }).catch(() => undefined); // who does not answer is seen by what does not come
    }
    if (data === null || typeof data !== 'object' || Array.isArray(data) || typeof data.type !== 'string') {
      return; // not of this protocol
    }
    const message = data as unknown as PanelEvent | PanelAnswer;
    switch (message.type) {
      case 'predicted':
      case 'applied':
      case 'stopped':
      case 'acknowledged':
        this._settle(message.id)?.resolve(message);
        break;
      case 'problem':
        this._settle(message.id)?.reject(new KernelProblem(message.error, message.message));
        break;
      default:
        this.model.dispatch(message);
    }
  }

  private _settle(id: string | null): Waiting | undefined {
    const waiting = id === null ? undefined : this._waiting.get(id);
    if (waiting !== undefined && id !== null) {
      clearTimeout(waiting.timer);
      this._waiting.delete(id);
    }
    return waiting;
  }

  private _closed(comm: Kernel.IComm | null, phase: Phase): void {
    if (comm !== this._comm) {
      return; // an older one
    }
    this._comm = null;
    for (const id of [...this._waiting.keys()]) {
      this._settle(id)?.reject(new KernelProblem('NotConnected', 'the kernel is not connected any more'));
    }
    this.model.dispatch({ type: 'phase', phase });
  }

  /** Let go of a comm that nothing comes over. */
  private _giveUp(): void {
    const comm = this._comm;
    this._closed(comm, 'not-loaded');
    if (comm === null || comm.isDisposed || this.kernel.isDisposed) {
      return;
    }
    if (this._opened) {
      comm.close();
    } else {
      comm.dispose();
    }
  }

  /**
   * The kernel closed: exo_lab is not loaded, or it is unloaded, and a cell may have loaded it while we were asking; or
   * it has not heard of us for a while, as when this machine slept.
   */
  private _refused(comm: Kernel.IComm, goodbye: JSONValue | undefined): void {
    const again = this._comm === comm && (this._again || wasSilent(goodbye));
    this._closed(comm, 'not-loaded');
    if (again) {
      void this.attach();
    }
  }

  private _onStatus(_: unknown, status: KernelMessage.Status): void {
    switch (status) {
      case 'restarting':
      case 'autorestarting':
        this._restarted = true;
        this._closed(this._comm, 'restarting'); // JupyterLab has forgotten its comms too
        break;
      case 'dead':
      case 'terminating':
        this._closed(this._comm, 'dead');
        break;
      case 'idle':
      case 'busy':
        if (this._restarted) {
          this._restarted = false;
          this.model.dispatch({ type: 'phase', phase: this._python ? 'not-loaded' : 'other-language' });
        }
        break;
    }
  }

  /** Back after the network was gone, or this machine slept: is there still somebody at the other end? */
  private _onConnection(_: unknown, status: Kernel.ConnectionStatus): void {
    if (status === 'connected' && this._comm !== null && this.model.state.phase !== 'connecting') {
      void this.lookAgain();
    }
  }

  /** Somebody ran code that speaks of exo: when it is done, exo_lab may be loaded, or loaded anew. */
  private _onIOPub(_: unknown, message: KernelMessage.IIOPubMessage): void {
    const type = message.header.msg_type;
    const parent = 'msg_id' in message.parent_header ? message.parent_header.msg_id : null;
    if (type === 'execute_input' && mentionsExo((message as KernelMessage.IExecuteInputMsg).content.code)) {
      this._hint = parent;
    } else if (type === 'status' && this._hint !== null && parent === this._hint) {
      if ((message as KernelMessage.IStatusMsg).content.execution_state === 'idle') {
        this._hint = null;
        this._again = this._comm !== null && this.model.state.phase === 'connecting';
        void this.attach();
      }
    }
  }

  private _comm: Kernel.IComm | null = null;
  private _language = '';
  private _asked = 0;
  private _askedAt = 0;
  private _heard = 0; // messages
  private _opened = false; // was the comm, or does it still wait for its subshell
  private _hint: string | null = null;
  private _again = false; // a cell may have loaded exo_lab since we asked
  private _restarted = false;
  private _disposed = false;
  private readonly _ready: Promise<void>;
  private readonly _waiting = new Map<string, Waiting>();
}

function wasSilent(goodbye: JSONValue | undefined): boolean {
  const said = goodbye as Partial<Goodbye> | null | undefined;
  return said?.reason === 'silent';
}

/** Does code speak of exo_lab, or use its magics? */
export function mentionsExo(code: string): boolean {
  return /(^|\n)\s*%%?exo\b|\bexo_lab\b/.test(code);
}

function after(ms: number): Promise<undefined> {
  return new Promise(resolve => setTimeout(resolve, ms, undefined));
}

/** Wait for a promise, but not for ever; how it ends does not matter. */
async function settled(promise: Promise<unknown>, ms: number): Promise<void> {
  await Promise.race([promise.catch(() => undefined), after(ms)]);
}
