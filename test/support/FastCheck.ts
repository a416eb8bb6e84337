/**
 * Property tests choose by the seed of the run, the same in every run; see `Seed.ts`.
 */
import fc from "fast-check"
import { seed } from "./Seed.ts"

fc.configureGlobal({ seed })
