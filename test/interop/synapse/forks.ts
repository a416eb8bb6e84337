/** Forks of a room whose users change its state in conflict during partitions. */
import type { People, Scene, Stage } from "./Scene.ts"
import { levelsOf } from "./Scene.ts"

type Levels = { readonly [name in keyof People]?: number }

const powerLevels = (stage: Stage, users: Levels, others: object = {}) => ({
  users: levelsOf(stage, { alice: 100, ...users }),
  users_default: 0,
  events: { "m.room.power_levels": 80, "m.room.tombstone": 100, "m.room.name": 50 },
  events_default: 0,
  state_default: 50,
  ban: 50,
  kick: 50,
  redact: 50,
  invite: 0,
  ...others
})

const levels: Levels = { bob: 90, andy: 60, ben: 50 }

const createRoom = async (stage: Stage): Promise<string> => {
  const { people, version } = stage
  const room = await people.alice.createRoom({
    room_version: `${version}`,
    preset: "public_chat",
    name: `Forks ${version}`,
    topic: "before",
    room_alias_name: `forks-${version}`,
    power_level_content_override: powerLevels(stage, levels)
  })
  await people.andy.join(room)
  await people.anna.join(room)
  for (const name of ["bob", "ben", "bella"] as const) await people[name].join(room, stage.pair.a.name)
  return room
}

/** A ban on one side; what the banned user does on the other. */
const banAgainstActivity = async ({ pair, people }: Stage, room: string) => {
  const { alice, andy, anna, bella, ben, bob } = people
  const toRedact = await bella.sendText(room, "to be redacted by alice")
  const mine = await bella.sendText(room, "to be redacted by bella")
  await pair.delivered(mine, pair.a)
  await pair.duringPartition(
    async () => {
      await alice.ban(room, bella)
      await alice.set(room, "m.room.topic", { topic: "from a" })
      await alice.redact(room, toRedact)
      await andy.set(room, "m.room.name", { name: "from a" })
      await anna.sendText(room, "on a")
    },
    async () => {
      await bella.sendText(room, "not banned here")
      await bella.redact(room, mine)
      await bella.set(room, "m.room.member", { membership: "join", displayname: "Bella B" }, bella.id)
      await bob.set(room, "m.room.topic", { topic: "from b" })
      await ben.set(room, "m.room.avatar", { url: "mxc://localhost/b" })
    }
  )
  await pair.settle(room, alice, bob)
}

/** Alice demotes bob while bob promotes ben, who uses it. */
const demotionAgainstPromotion = async (stage: Stage, room: string) => {
  const { pair, people } = stage
  const { alice, andy, ben, bob } = people
  await pair.duringPartition(
    async () => {
      await alice.set(room, "m.room.power_levels", powerLevels(stage, { ...levels, bob: 10 }))
      await alice.set(room, "m.room.topic", { topic: "bob is demoted" })
      await andy.set(room, "m.room.name", { name: "andy's" })
    },
    async () => {
      await bob.set(room, "m.room.power_levels", powerLevels(stage, { ...levels, ben: 75 }))
      await ben.kick(room, andy)
      await ben.set(room, "m.room.topic", { topic: "ben is promoted" })
      await bob.set(room, "m.room.history_visibility", { history_visibility: "joined" })
    }
  )
  await pair.settle(room, alice, bob)
}

/** The room closes on one side while users join on the other. */
const closedAgainstJoins = async (stage: Stage, room: string) => {
  const { pair, people } = stage
  const { alice, bea, bob, carl, dora } = people
  await pair.delivered(await alice.set(room, "m.room.power_levels", powerLevels(stage, levels)), pair.b)
  await pair.duringPartition(
    async () => {
      await alice.set(room, "m.room.join_rules", { join_rule: "invite" })
      await alice.sendText(room, "closed")
    },
    async () => {
      await carl.join(room)
      await carl.sendText(room, "it was open")
      await bob.invite(room, dora)
      await dora.join(room)
      await bob.invite(room, bea)
    }
  )
  await pair.settle(room, alice, bob)
}

/** Each side throws out somebody of the other, who throws out others meanwhile. */
const bansAgainstBans = async (stage: Stage, room: string) => {
  const { pair, people } = stage
  const { alice, andy, anna, bella, ben, bob, dora } = people
  const present = await alice.content(room, "m.room.member", andy.id)
  if (present.membership !== "join") {
    await alice.invite(room, andy)
    await andy.join(room)
    await pair.settle(room, alice, bob)
  }
  await pair.duringPartition(
    async () => {
      await andy.kick(room, ben)
      await andy.ban(room, dora)
      await anna.leave(room)
      await alice.unban(room, bella)
      await alice.set(room, "m.room.guest_access", { guest_access: "forbidden" })
    },
    async () => {
      await ben.kick(room, anna)
      await bob.ban(room, andy)
      await bob.set(room, "m.room.guest_access", { guest_access: "can_join" })
      await ben.set(room, "org.example.note", { text: "from ben" }, "b")
    }
  )
  await pair.settle(room, alice, bob)
}

/** Power levels from both sides at once, then aliases and an upgrade notice. */
const levelsAgainstLevels = async (stage: Stage, room: string) => {
  const { pair, people, version } = stage
  const { alice, bob } = people
  const alias = (name: string, server: string) => `#${name}-${version}:${server}`
  await pair.duringPartition(
    async () => {
      await alice.set(room, "m.room.power_levels", powerLevels(stage, levels, { invite: 50 }))
      await alice.set(room, "m.room.aliases", { aliases: [alias("more", pair.a.name)] }, pair.a.name)
      await alice.call("PUT", `directory/room/${encodeURIComponent(alias("other", pair.a.name))}`, { room_id: room })
      await alice.set(room, "m.room.canonical_alias", { alias: alias("other", pair.a.name) })
    },
    async () => {
      await bob.set(room, "m.room.power_levels", powerLevels(stage, levels, { ban: 60, events_default: 10 }))
      await bob.set(room, "m.room.power_levels", powerLevels(stage, levels, { ban: 60, users_default: 5 }))
      await bob.call("PUT", `directory/room/${encodeURIComponent(alias("forks", pair.b.name))}`, { room_id: room })
      await bob.set(room, "m.room.canonical_alias", { alias: alias("forks", pair.b.name) })
      await bob.set(room, "m.room.aliases", { aliases: [alias("forks", pair.b.name)] }, pair.b.name)
    }
  )
  await pair.settle(room, alice, bob)
}

/** State events are redacted on both sides. */
const redactions = async (stage: Stage, room: string) => {
  const { pair, people } = stage
  const { alice, bob } = people
  const state = await alice.state(room)
  const idOf = (type: string, stateKey = "") =>
    state.find((event) => event.type === type && event.state_key === stateKey)?.event_id
  await pair.duringPartition(
    async () => {
      await alice.redact(room, idOf("m.room.topic"))
      await alice.redact(room, idOf("m.room.member", bob.id))
      await alice.redact(room, idOf("m.room.join_rules"))
    },
    async () => {
      await bob.redact(room, idOf("m.room.topic"), "also wrong")
      await bob.redact(room, idOf("m.room.power_levels"))
      await bob.redact(room, idOf("m.room.create")).catch(() => undefined)
      await bob.redact(room, idOf("m.room.canonical_alias"))
    }
  )
  await pair.settle(room, alice, bob)
  const moved = { body: "moved", replacement_room: "!elsewhere:localhost" }
  await pair.delivered(await alice.set(room, "m.room.tombstone", moved), pair.b)
}

/** The quarrels follow one another in one room, so that later ones start from what earlier ones left. */
export const forks: Scene = {
  name: "forks",
  run: async (stage) => {
    const room = await createRoom(stage)
    await banAgainstActivity(stage, room)
    await demotionAgainstPromotion(stage, room)
    await closedAgainstJoins(stage, room)
    await bansAgainstBans(stage, room)
    await levelsAgainstLevels(stage, room)
    await redactions(stage, room)
    return { room }
  }
}
