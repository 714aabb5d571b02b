// The packages that `install.sh` has put outside the repository.

import { createRequire } from 'node:module';

export const library = createRequire(`${process.env.INTEROP_NODE}/`);
