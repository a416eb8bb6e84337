/**
 * Knocks (from version 7), restricted joins (from 8) and both (from 10), in forks.
 */
import { levelsOf, type Scene, type Stage } from "./Scene.ts"

const create = (stage: Stage, name: string, joinRules: object): Promise<string> =>
  stage.people.alice.createRoom({
    room_version: `${stage.version}`,
    name,
    initial_state: [{ type: "m.room.join_rules", state_key: "", content: joinRules }],
    power_level_content_override: {
      users: levelsOf(stage, { alice: 100, bob: 90, ben: 60 }),
      invite: 50,
      events: { "m.room.power_levels": 80 }
    }
  })

const demoteBob = async (stage: Stage, room: string) => {
  const { alice, bob } = stage.people
  const levels = await alice.content(room, "m.room.power_levels")
  await alice.set(room, "m.room.power_levels", { ...levels, users: { ...levels.users, [bob.id]: 0 } })
}

/** The room stops accepting knocks and bans a knocking user, while the other side accepts knocks. */
export const knocks: Scene = {
  name: "knocks",
  from: 7,
  run: async (stage) => {
    const { pair, people } = stage
    const { alice, anna, bea, ben, bob, carl, dora } = people
    const room = await create(stage, "Knock", { join_rule: "knock" })
    await bob.knock(room, pair.a.name)
    await alice.invite(room, bob)
    await bob.join(room, pair.a.name)
    await ben.knock(room)
    await pair.settle(room, alice, bob)
    await alice.invite(room, ben)
    await pair.settle(room, alice, bob)
    await ben.join(room)
    await anna.knock(room)
    await alice.kick(room, anna)
    await pair.duringPartition(
      async () => {
        await alice.ban(room, bea)
        await alice.set(room, "m.room.join_rules", { join_rule: "invite" })
      },
      async () => {
        await bea.knock(room)
        await carl.knock(room)
        await dora.knock(room)
        await bob.invite(room, carl)
        await carl.join(room)
        await dora.leave(room)
      }
    )
    await pair.settle(room, alice, bob)
    return { room }
  }
}

/** A room that members of a space may join. */
const restrictedRoom = async (stage: Stage, joinRule: string) => {
  const { people } = stage
  const { alice, anna, bea, ben, bob, carl } = people
  const space = await alice.createRoom({
    room_version: `${stage.version}`,
    preset: "public_chat",
    name: "Space",
    creation_content: { type: "m.space" }
  })
  for (const member of [anna, bea, ben, bob, carl]) await member.join(space, stage.pair.a.name)
  const allow = [{ type: "m.room_membership", room_id: space }]
  const room = await create(stage, "Restricted", { join_rule: joinRule, allow })
  return { room, allow }
}

/** Users join by their membership of the space, while those who authorise them lose the power to invite. */
export const restricted: Scene = {
  name: "restricted",
  from: 8,
  run: async (stage) => {
    const { pair, people } = stage
    const { alice, anna, bea, ben, bob, carl, dora } = people
    const { allow, room } = await restrictedRoom(stage, "restricted")
    await bob.join(room, pair.a.name)
    await ben.join(room, pair.a.name)
    await anna.join(room)
    await pair.settle(room, alice, bob)
    await pair.duringPartition(
      async () => {
        await demoteBob(stage, room)
        await alice.kick(room, ben)
        await alice.kick(room, anna)
        await anna.join(room)
      },
      async () => {
        await carl.join(room)
        await bob.invite(room, dora)
        await dora.join(room)
        await ben.sendText(room, "not kicked here")
        await ben.set(room, "m.room.topic", { topic: "ben's" })
      }
    )
    await pair.settle(room, alice, bob)
    await ben.join(room, pair.a.name)
    await pair.settle(room, alice, ben)
    await pair.duringPartition(
      async () => {
        await alice.ban(room, carl)
        await alice.set(room, "m.room.join_rules", { join_rule: "invite", allow })
      },
      async () => {
        await bea.join(room)
        await bea.sendText(room, "joined by membership elsewhere")
        await carl.leave(room).catch(() => undefined)
      }
    )
    await pair.settle(room, alice, ben)
    return { room }
  }
}

/** Users knock, and join by their membership of the space, in one room. */
export const knockRestricted: Scene = {
  name: "knock-restricted",
  from: 10,
  run: async (stage) => {
    const { pair, people } = stage
    const { alice, ben, bob, carl, dora, zoe } = people
    const { allow, room } = await restrictedRoom(stage, "knock_restricted")
    await bob.join(room, pair.a.name)
    await ben.join(room, pair.a.name)
    await zoe.knock(room)
    await pair.settle(room, alice, bob)
    await pair.duringPartition(
      async () => {
        await alice.kick(room, zoe)
        await alice.set(room, "m.room.join_rules", { join_rule: "restricted", allow })
      },
      async () => {
        await carl.join(room)
        await dora.knock(room)
        await bob.invite(room, zoe)
        await zoe.join(room)
      }
    )
    await pair.settle(room, alice, bob)
    return { room }
  }
}

/** The room has two creators, who are above all power levels. */
export const creators: Scene = {
  name: "creators",
  from: 12,
  run: async (stage) => {
    const { pair, people } = stage
    const { alice, andy, ben, bob, carl } = people
    const room = await alice.createRoom({
      room_version: `${stage.version}`,
      preset: "public_chat",
      creation_content: { additional_creators: [bob.id] },
      power_level_content_override: { users: levelsOf(stage, { andy: 100, ben: 100 }) }
    })
    await andy.join(room)
    for (const joiner of [bob, ben, carl]) await joiner.join(room, pair.a.name)
    await pair.settle(room, alice, bob)
    const levels = await alice.content(room, "m.room.power_levels")
    await pair.duringPartition(
      async () => {
        await alice.set(room, "m.room.power_levels", { ...levels, users: { [andy.id]: 100 } })
        await andy.ban(room, carl)
        await andy.set(room, "m.room.topic", { topic: "from a" })
        await alice.kick(room, ben)
      },
      async () => {
        await bob.set(room, "m.room.power_levels", { ...levels, users: { [ben.id]: 100 } })
        await ben.ban(room, andy)
        await ben.set(room, "m.room.topic", { topic: "from b" })
        await carl.sendText(room, "not banned here")
        await bob.set(room, "m.room.tombstone", { body: "moved", replacement_room: "!elsewhere" })
      }
    )
    await pair.settle(room, alice, bob)
    return { room }
  }
}
