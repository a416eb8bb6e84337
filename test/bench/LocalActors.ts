/** The cost of asking an actor that runs in the same process. */
import { type Benchmark, ofBaseline, perSecond } from "./Benchmark.ts"
import { runLoad } from "./LoadProcess.ts"
import type { LocalActors, LocalActorsInput } from "./load/localActors.ts"

export const localActors: Benchmark = {
  name: "actors",
  measures: "messages to actors in the same process; baseline: a mailbox and a fiber",
  run: async ({ quick }) => {
    const messages = quick ? 2_000 : 50_000
    const { actors, mailboxes } = await runLoad<LocalActorsInput, LocalActors>("localActors", { messages })
    return [
      {
        what: "local actor messages",
        value: perSecond(actors, "messages"),
        baseline: perSecond(mailboxes, "messages"),
        ratio: ofBaseline(actors / mailboxes)
      }
    ]
  }
}
