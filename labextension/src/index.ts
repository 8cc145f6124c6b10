/** The plugins. */

import { base } from './plugins/base';
import { commands } from './plugins/commands';
import { lessons } from './plugins/lessons';
import { outputs } from './plugins/outputs';
import { panels } from './plugins/panels';
import { status } from './plugins/status';

export default [base, commands, panels, status, outputs, lessons];
