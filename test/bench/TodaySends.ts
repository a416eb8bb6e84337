/**
 * Sends by today's API, with push rules of their own for the senders, who are the members of the rooms, against sends by the
 * draft's; sends to a room of 500 members with the default push rules against one of two; and sends to 500 members each of
 * whom has a rule of their own, by which every message is highlighted: as much work as there can be.
 */
import { atLeast, type Benchmark, milliseconds, ofBaseline, perSecond } from "./Benchmark.ts"
import { pairedRatio, rounds, senderCount, typical } from "./DurableSends.ts"
import { runLoad } from "./LoadProcess.ts"
import type { Audience, AudienceInput } from "./load/audience.ts"
import type { Throughput } from "./load/ClosedLoop.ts"
import type { PushRulesInput } from "./load/pushRules.ts"
import type { Senders, SendersInput } from "./load/senders.ts"
import type { SendsInput } from "./load/sends.ts"
import { startServer } from "./Server.ts"

export const todaySends: Benchmark = {
  name: "today-sends",
  measures: "durable sends by today's API with push rules; baseline: by the draft's API, and a room of two members",
  run: async (options) => {
    const { rounds: total, ...loop } = rounds(options)
    const senders = senderCount(options)
    const members = options.quick ? 20 : 500
    await using server = await startServer()
    const { url } = server
    const prepared = await runLoad<SendersInput, Senders>("senders", { url, senders })
    const crowd = await runLoad<AudienceInput, Audience>("audience", { url, members, name: "crowd" })
    const keyed = await runLoad<AudienceInput, Audience>("audience", { url, members, name: "keyed" })
    const pair = await runLoad<AudienceInput, Audience>("audience", { url, members: 1, name: "pair" })
    await runLoad<PushRulesInput, number>("pushRules", { url, tokens: [...prepared.tokens, ...keyed.members] })
    const send = (run: string, today: boolean, chosen: Senders) =>
      runLoad<SendsInput, Throughput>("sends", { ...loop, ...chosen, url, run, today })
    const eight = ({ room, sender }: Audience): Senders => ({
      tokens: Array.from({ length: 8 }, () => sender),
      rooms: Array.from({ length: 8 }, () => room)
    })
    const [draft, today, small, large, highlighted]: Array<Array<Throughput>> = [[], [], [], [], []]
    for (let round = 0; round < total; round++) {
      draft!.push(await send(`draft${round}`, false, prepared))
      today!.push(await send(`today${round}`, true, prepared))
      small!.push(await send(`small${round}`, true, eight(pair)))
      large!.push(await send(`large${round}`, true, eight(crowd)))
      highlighted!.push(await send(`highlighted${round}`, true, eight(keyed)))
    }
    const ratio = pairedRatio(today!, draft!)
    const bySize = pairedRatio(large!, small!)
    return [
      {
        what: `${senders} senders by today's API`,
        value: perSecond(typical(today!).perSecond, "events"),
        baseline: `${perSecond(typical(draft!).perSecond, "events")}, the draft's`,
        ratio: ofBaseline(ratio),
        target: atLeast(ratio, 0.8)
      },
      {
        what: "  until the answer, p50",
        value: milliseconds(typical(today!).p50),
        baseline: milliseconds(typical(draft!).p50)
      },
      {
        what: `a room of ${members} members`,
        value: perSecond(typical(large!).perSecond, "events"),
        baseline: `${perSecond(typical(small!).perSecond, "events")}, two members`,
        ratio: ofBaseline(bySize),
        target: atLeast(bySize, 0.5)
      },
      {
        what: "  each highlighting every message by a rule of their own",
        value: perSecond(typical(highlighted!).perSecond, "events"),
        baseline: `${perSecond(typical(small!).perSecond, "events")}, two members`,
        ratio: ofBaseline(pairedRatio(highlighted!, small!))
      }
    ]
  }
}
