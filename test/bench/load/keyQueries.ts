/** Makes users of an application service with several devices each, whose keys they upload, and queries all of them. */
import { serveLoad } from "../LoadProcess.ts"
import { type Percentiles, percentiles } from "../Percentiles.ts"
import { HttpConnection } from "./HttpConnection.ts"
import { jsonOf, onConnections, todayPrefix } from "./People.ts"

export interface KeyQueriesInput {
  readonly url: string
  /** The token of the application service, whose users' names begin with `member`. */
  readonly asToken: string
  readonly members: number
  /** Of each member. */
  readonly devices: number
  readonly turns: number
}

export interface KeyQueries extends Percentiles {
  /** Bytes of an answer. */
  readonly size: number
}

const service = "m.login.application_service"

/** As long as real ones. */
const key = "k".repeat(43)
const signature = "s".repeat(86)

const keysOf = (userId: string, device: string) => ({
  user_id: userId,
  device_id: device,
  algorithms: ["m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"],
  keys: { [`curve25519:${device}`]: key, [`ed25519:${device}`]: key },
  signatures: { [userId]: { [`ed25519:${device}`]: signature, [`ed25519:${key}`]: signature } }
})

serveLoad(async ({ asToken, devices, members, turns, url }: KeyQueriesInput): Promise<KeyQueries> => {
  const post = <A>(connection: HttpConnection, path: string, token: string | undefined, body: object) =>
    jsonOf<A>(connection.request("POST", `${todayPrefix}${path}`, token, JSON.stringify(body)))
  let reader = ""
  const userIds = await onConnections(url, 16, members, async (connection, index) => {
    const username = `member${index}`
    const made = await post<{ user_id: string }>(connection, "/register", asToken, {
      type: service,
      username,
      inhibit_login: true
    })
    for (let device = 0; device < devices; device++) {
      const device_id = `DEVICE${device}OF${index}`
      const { access_token } = await post<{ access_token: string }>(connection, "/login", asToken, {
        type: service,
        identifier: { type: "m.id.user", user: username },
        device_id,
        initial_device_display_name: "Element on a telephone"
      })
      await post(connection, "/keys/upload", access_token, { device_keys: keysOf(made.user_id, device_id) })
      reader = access_token
    }
    return made.user_id
  })
  const connection = await HttpConnection.open(url)
  const query = JSON.stringify({ device_keys: Object.fromEntries(userIds.map((userId) => [userId, []])) })
  const times: Array<number> = []
  let size = 0
  // The first ones are not counted: what runs first is compiled first.
  for (let turn = -5; turn < turns; turn++) {
    const begin = performance.now()
    const answer = await connection.request("POST", `${todayPrefix}/keys/query`, reader, query)
    const time = performance.now() - begin
    const { device_keys } = await jsonOf<{ device_keys: Record<string, object> }>(Promise.resolve(answer))
    const found = Object.values(device_keys).reduce((sum, keys) => sum + Object.keys(keys).length, 0)
    if (found !== members * devices) throw new Error(`${found} devices were found`)
    if (turn >= 0) times.push(time)
    size = answer.size
  }
  connection.close()
  return { size, ...percentiles(times) }
})
