/** One link, model and tuning for each kernel that is looked at; shared by everything that shows it. */

import type { Kernel } from '@jupyterlab/services';

import { KernelLink } from './link';
import { Tuning } from './tuning';

export interface Connection {
  readonly link: KernelLink;
  readonly tuning: Tuning;
}

export class Pool {
  /** Plans are judged for a context of so many tokens. */
  contextTokens = 2048;

  /** The connection of a kernel; made when it is first asked for, and gone with the kernel's connection. */
  of(kernel: Kernel.IKernelConnection, subject: string): Connection {
    const known = this._connections.get(kernel);
    if (known !== undefined) {
      return known;
    }
    const link = new KernelLink(kernel, subject);
    const tuning = new Tuning(link.model, ask => link.ask(ask), this.contextTokens);
    const made = { link, tuning };
    this._connections.set(kernel, made);
    kernel.disposed.connect(() => {
      this._connections.delete(kernel);
      tuning.dispose();
      link.dispose();
    });
    return made;
  }

  private readonly _connections = new Map<Kernel.IKernelConnection, Connection>();
}
