// All that a job goes through, with the unmodified TypeScript SDK. Prints what it saw as one line of JSON.
//
// Usage: lifecycle.mjs PREFIX IMAGE LISTS, where LISTS is the sibling module that knows this version's lists.
import { blJob, createJob, deleteJob, getJob, updateJob } from "@blaxel/core";

const [PREFIX, IMAGE, LISTS] = process.argv.slice(2);
const lists = await import(`./${LISTS}.mjs`);

const body = (name, mark, timeout = 60) => ({
  metadata: { name, labels: { "made-by": PREFIX } },
  spec: {
    runtime: {
      image: IMAGE,
      memory: 64,
      timeout,
      maxRetries: 0,
      maxConcurrentTasks: 2,
      envs: [{ name: "MARK", value: mark }],
    },
  },
});
const create = async (name, mark) => (await createJob({ body: body(name, mark), throwOnError: true })).data;
const get = async (jobId) => (await getJob({ path: { jobId }, throwOnError: true })).data;

/** What kind of thing `call` rejects with (the SDK's are plain objects), and what it says. */
const error = async (call) => {
  try {
    await call();
    return ["nothing", ""];
  } catch (raised) {
    return [raised.constructor.name, raised instanceof Error ? raised.message : JSON.stringify(raised)];
  }
};

const names = [0, 1, 2, 3, 4].map((number) => `${PREFIX}-${number}`);
const created = [];
for (const name of names) created.push(await create(name, "first"));
const name = names[0];
const first = await get(name);
await updateJob({ path: { jobId: name }, body: body(name, "second", 30), throwOnError: true });
const second = await get(name);
const [listed, jobPages] = await lists.jobs(2);

const own = blJob(name);
const wait = (id) => own.waitForExecution(id, { maxWait: 50_000, interval: 300 });
const doneId = await own.run([{ n: 0 }, { n: 1 }, { n: 2 }], { env: { GREETING: "Bonjour" } });
const returned = await wait(doneId);
const done = await own.getExecution(doneId);

const cancelledId = await own.run(Array.from({ length: 20 }, (_, n) => ({ slow: n })));
while ((await own.getExecution(cancelledId)).stats.running === 0); // each look is a request: no need to pause
await own.cancelExecution(cancelledId);
await wait(cancelledId);
const cancelled = await own.getExecution(cancelledId);
const thirdId = await own.run([{ n: 0 }], { env: { GREETING: "Bonjour" }, executionId: `${PREFIX}-third` });
await wait(thirdId);
const [executions, executionPages] = await lists.executions(own, 2);

const errors = {
  get: await error(() => get("missing")),
  run: await error(() => blJob("missing").run([{ n: 0 }])),
  execution: await error(() => own.getExecution("missing-execution")),
  duplicate: await error(() => create(name, "third")),
  invalid: await error(() => create("Not A Name", "first")),
};
const said = {
  created: created.map((each) => each.metadata.name),
  images: [...new Set(created.map((each) => each.spec.runtime.image))],
  updated: [first, second].map((each) => [each.spec.runtime.timeout, each.spec.runtime.envs[0].value]),
  jobs: listed,
  job_pages: jobPages,
  ran: doneId,
  status: await own.getExecutionStatus(doneId),
  waited: returned?.status ?? "succeeded", // older helpers return nothing
  stats: done.stats,
  timeout: done.spec.timeout,
  round_trip: done.metadata.id,
  tasks: await lists.tasks(own, doneId, 2),
  cancelled: cancelledId,
  cancelled_status: await own.getExecutionStatus(cancelledId),
  never_ran: cancelled.stats.cancelled,
  third: thirdId,
  executions,
  execution_pages: executionPages,
  errors,
};
const deleted = [];
for (const jobId of names) deleted.push((await deleteJob({ path: { jobId }, throwOnError: true })).data);
said.deleted = deleted.map((each) => each.metadata.name);
said.gone = await error(() => get(name));
console.log(JSON.stringify(said));
