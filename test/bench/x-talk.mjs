import { runLoad } from "./LoadProcess.ts"
import { startServer, residentMemory } from "./Server.ts"
import { setTimeout as sleep } from "node:timers/promises"
import fs from "node:fs"
const secs=+process.argv[2], opts=(process.argv[3]||"").split(" ").filter(Boolean)
const env=Object.fromEntries(process.argv.slice(4).map(a=>a.split("=")))
await using server = await startServer({nodeOptions: opts, environment: env})
const cpu=()=>{const f=fs.readFileSync(`/proc/${server.pid}/stat`,"utf8").split(" ");return (+f[13]+ +f[14])/100}
const a=residentMemory(server.pid)/1024|0
const people=await runLoad("gatherings",{url:server.url,rooms:20,membersOfRoom:5})
const {senders:tokens,rooms,members}=people
const c0=cpu()
const samples=[]
const p=Promise.all([runLoad("pacedSends",{url:server.url,tokens,rooms,seconds:secs,interval:50,run:"t"}), runLoad("listeners",{url:server.url,members,seconds:secs+1})])
for(let i=0;i<secs;i+=10){await sleep(10000); samples.push(residentMemory(server.pid)/1024|0)}
const [times,answers]=await p
const c1=cpu()
if(env.PROBE_OUT){process.kill(server.pid,"SIGUSR2"); await sleep(1500)}
await sleep(20000)
console.log(opts.join(" "),JSON.stringify(env),"start",a,"samples",samples.join(" "),"p50",times.p50.toFixed(1),"p99",times.p99.toFixed(1),"answers",answers,"cpu/s",((c1-c0)/secs).toFixed(2),"after",residentMemory(server.pid)/1024|0)
