/** The import of an address book, against the bare INSERT of its cards in one statement. */
import { atMost, type Benchmark, count, milliseconds, times } from "./Benchmark.ts"
import { runLoad } from "./LoadProcess.ts"
import type { ContactRounds, ContactsInput } from "./load/contacts.ts"
import type { Senders, SendersInput } from "./load/senders.ts"
import { median } from "./Percentiles.ts"
import { startPostgres } from "./Postgres.ts"
import { startServer } from "./Server.ts"

export const contacts: Benchmark = {
  name: "contacts",
  measures: "the import of 10,000 vCards, the same file again, and the export; baseline: one INSERT of the cards",
  run: async ({ quick }) => {
    const cards = quick ? 200 : 10_000
    await using postgres = await startPostgres(20)
    await using server = await startServer()
    const { tokens } = await runLoad<SendersInput, Senders>("senders", { url: server.url, senders: quick ? 1 : 3 })
    const { socketPath } = postgres
    const input = { url: server.url, tokens, contacts: cards, socketPath }
    const rounds = await runLoad<ContactsInput, ContactRounds>("contacts", input)
    const [imported, inserted] = [median(rounds.imports), median(rounds.inserts)]
    return [
      {
        what: `import of ${count(cards)} contacts`,
        value: milliseconds(imported),
        baseline: milliseconds(inserted),
        ratio: times(imported / inserted),
        target: atMost(imported / 1_000, 5, " s")
      },
      { what: "  the same file again", value: milliseconds(median(rounds.repeats)), baseline: "-" },
      { what: "  the export", value: milliseconds(median(rounds.exports)), baseline: "-" }
    ]
  }
}
