/** A kernel that is not there: as much of JupyterLab's connection as `KernelLink` uses. */

import type { Kernel } from '@jupyterlab/services';
import { Signal } from '@lumino/signaling';

export class FakeComm {
  constructor(private readonly _kernel: FakeKernel) {}

  onMsg: (message: { content: { data: unknown } }) => void = () => undefined;
  onClose: (message: { content: { data: unknown } }) => void = () => undefined;
  isDisposed = false;
  opened = false;
  goodbyes = 0;
  sent: Record<string, unknown>[] = [];
  subshellStarted: Promise<void> = Promise.resolve();

  open(): void {
    this.opened = true;
    if (!this._kernel.loaded) {
      this.closedByKernel({});
    }
  }

  send(data: Record<string, unknown>): void {
    this._check();
    this.sent.push(data);
  }

  close(): void {
    this._check();
    this.goodbyes += 1;
    this.closedByKernel({}); // JupyterLab's own calls it too
  }

  dispose(): void {
    this.isDisposed = true;
  }

  closedByKernel(data: unknown): void {
    this.onClose({ content: { data } });
    this.dispose();
  }

  private _check(): void {
    if (this.isDisposed || this._kernel.isDisposed) {
      throw new Error('Cannot send'); // as JupyterLab's does
    }
  }

  hear(data: unknown): void {
    this.onMsg({ content: { data } });
  }
}

export class FakeKernel {
  constructor(language = 'python') {
    this.info = Promise.resolve({ language_info: { name: language } });
  }

  id = 'kernel';
  handleComms = true;
  readonly info: Promise<{ language_info: { name: string } }>;
  readonly statusChanged = new Signal<this, string>(this);
  readonly connectionStatusChanged = new Signal<this, string>(this);
  readonly iopubMessage = new Signal<this, unknown>(this);
  readonly disposed = new Signal<this, void>(this);
  readonly interrupt = jest.fn(() => Promise.resolve());
  isDisposed = false;
  supportsSubshells = true;
  loaded = true;
  comms: FakeComm[] = [];
  status = 'idle';
  /** Ids of its widgets. */
  widgets: string[] = [];

  async requestCommInfo(): Promise<object> {
    const comms = Object.fromEntries(this.widgets.map(id => [id, {}]));
    return Promise.resolve({ content: { status: 'ok', comms } });
  }

  createComm(): FakeComm {
    const comm = new FakeComm(this);
    this.comms.push(comm);
    return comm;
  }

  get comm(): FakeComm {
    return this.comms[this.comms.length - 1];
  }

  /** As JupyterLab does: the connection is gone before it says so. */
  dispose(): void {
    this.isDisposed = true;
    this.disposed.emit();
  }

  /** As if a cell with this code had been run; `meanwhile` happens before it ends. */
  ran(code: string, meanwhile: () => void = () => undefined): void {
    const parent_header = { msg_id: 'cell' };
    this.iopubMessage.emit({ header: { msg_type: 'execute_input' }, parent_header, content: { code } });
    meanwhile();
    const content = { execution_state: 'idle' };
    this.iopubMessage.emit({ header: { msg_type: 'status' }, parent_header, content });
  }

  get real(): Kernel.IKernelConnection {
    return this as unknown as Kernel.IKernelConnection;
  }
}
