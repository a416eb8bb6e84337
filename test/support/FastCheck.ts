/** Property tests use the seed of the run; see `Seed.ts`. */
import fc from "fast-check"
import { seed } from "./Seed.ts"

fc.configureGlobal({ seed })
