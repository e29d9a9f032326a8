// All that a job goes through, with the unmodified Go SDK. Prints what it saw as one line of JSON.
//
// Usage: lifecycle PREFIX IMAGE. Address, key and workspace come from BL_API_URL, BL_API_KEY and BL_WORKSPACE.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	blaxel "github.com/blaxel-ai/sdk-go"
	"github.com/blaxel-ai/sdk-go/shared"
)

const maxWait = 50 * time.Second

func must[T any](value T, err error) T {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return value
}

// failed tells the type of what a call returned as its error, and the text.
func failed(err error) []string {
	if err == nil {
		return []string{"nothing", ""}
	}
	var refused *blaxel.Error
	if errors.As(err, &refused) {
		return []string{"Error", err.Error()}
	}
	return []string{fmt.Sprintf("%T", err), err.Error()}
}

func main() {
	prefix, image := os.Args[1], os.Args[2]
	ctx := context.Background()
	client := must(blaxel.NewDefaultClient())

	body := func(name, mark string, timeout int64) blaxel.JobParam {
		return blaxel.JobParam{
			Metadata: blaxel.MetadataParam{Name: name, Labels: map[string]string{"made-by": prefix}},
			Spec: blaxel.JobSpecParam{Runtime: blaxel.JobRuntimeParam{
				Image:      blaxel.String(image),
				Memory:     blaxel.Int(64),
				Timeout:    blaxel.Int(timeout),
				MaxRetries: blaxel.Int(0),
				Envs:       []shared.EnvParam{{Name: blaxel.String("MARK"), Value: blaxel.String(mark)}},
			}},
		}
	}
	create := func(name, mark string) (*blaxel.Job, error) {
		return client.Jobs.New(ctx, blaxel.JobNewParams{Job: body(name, mark, 60)})
	}
	get := func(name string) (*blaxel.Job, error) { return client.Jobs.Get(ctx, name, blaxel.JobGetParams{}) }

	names, created, images := []string{}, []string{}, map[string]bool{}
	for number := range 5 {
		name := fmt.Sprintf("%s-%d", prefix, number)
		made := must(create(name, "first"))
		names, created = append(names, name), append(created, made.Metadata.Name)
		images[made.Spec.Runtime.Image] = true
	}
	name := names[0]
	first := must(get(name))
	must(client.Jobs.Update(ctx, name, blaxel.JobUpdateParams{Job: body(name, "second", 30)}))
	second := must(get(name))

	listed, jobPages := []string{}, 0
	for page := must(client.Jobs.List(ctx, blaxel.JobListParams{Limit: blaxel.Int(2)})); page != nil; {
		jobPages++
		for _, each := range page.Data {
			listed = append(listed, each.Metadata.Name)
		}
		page = must(page.GetNextPage())
	}

	run := func(own blaxel.CreateJobExecutionRequestParam) string {
		made := must(client.Jobs.Executions.New(ctx, name, blaxel.JobExecutionNewParams{CreateJobExecutionRequest: own}))
		return made.ExecutionID
	}
	execution := func(id string) *blaxel.JobExecution {
		return must(client.Jobs.Executions.Get(ctx, id, blaxel.JobExecutionGetParams{JobID: name}))
	}
	wait := func(id string) *blaxel.JobExecution {
		for until := time.Now().Add(maxWait); time.Now().Before(until); time.Sleep(300 * time.Millisecond) {
			if found := execution(id); found.Metadata.CompletedAt != "" {
				return found
			}
		}
		return execution(id)
	}
	french := map[string]string{"GREETING": "Bonjour"}
	argument := func(key string, count int) (tasks []any) {
		for n := range count {
			tasks = append(tasks, map[string]any{key: n})
		}
		return tasks
	}

	doneID := run(blaxel.CreateJobExecutionRequestParam{Tasks: argument("n", 3), Env: french})
	done := wait(doneID)
	cancelledID := run(blaxel.CreateJobExecutionRequestParam{Tasks: argument("slow", 20)})
	for execution(cancelledID).Stats.Running == 0 { // each look is a request: no need to pause
	}
	must(client.Jobs.Executions.Delete(ctx, cancelledID, blaxel.JobExecutionDeleteParams{JobID: name}))
	cancelled := wait(cancelledID)
	third := blaxel.CreateJobExecutionRequestParam{Tasks: argument("n", 1), Env: french}
	third.ExecutionID = blaxel.String(prefix + "-third")
	thirdID := run(third)
	wait(thirdID)

	executions, executionPages := []string{}, 0
	page := must(client.Jobs.Executions.List(ctx, name, blaxel.JobExecutionListParams{Limit: blaxel.Int(2)}))
	for ; page != nil; page = must(page.GetNextPage()) {
		executionPages++
		for _, each := range page.Data {
			executions = append(executions, each.Metadata.ID)
		}
	}
	tasks := []string{}
	pager := client.Jobs.Executions.ListTasksAutoPaging(
		ctx, doneID, blaxel.JobExecutionListTasksParams{JobID: name, Limit: blaxel.Int(2)},
	)
	for pager.Next() {
		tasks = append(tasks, pager.Current().Metadata.Name)
	}
	must(0, pager.Err())

	_, missing := get("missing")
	_, missingRun := client.Jobs.Executions.New(ctx, "missing", blaxel.JobExecutionNewParams{})
	_, missingExecution := client.Jobs.Executions.Get(
		ctx, "missing-execution", blaxel.JobExecutionGetParams{JobID: name},
	)
	_, duplicate := create(name, "third")
	_, invalid := create("Not A Name", "first")
	deleted := []string{}
	for _, each := range names {
		deleted = append(deleted, must(client.Jobs.Delete(ctx, each)).Metadata.Name)
	}
	_, gone := get(name)

	used := []string{}
	for each := range images {
		used = append(used, each)
	}
	must(0, json.NewEncoder(os.Stdout).Encode(map[string]any{
		"created": created,
		"images":  used,
		"updated": [][]any{
			{first.Spec.Runtime.Timeout, first.Spec.Runtime.Envs[0].Value},
			{second.Spec.Runtime.Timeout, second.Spec.Runtime.Envs[0].Value},
		},
		"jobs":      listed,
		"job_pages": jobPages,
		"ran":       doneID,
		"status":    done.Status,
		"waited":    done.Status,
		"stats": map[string]int64{
			"total": done.Stats.Total, "running": done.Stats.Running, "success": done.Stats.Success,
			"failure": done.Stats.Failure, "retried": done.Stats.Retried, "cancelled": done.Stats.Cancelled,
		},
		"timeout":          done.Spec.Timeout,
		"round_trip":       done.Metadata.ID,
		"tasks":            tasks,
		"cancelled":        cancelledID,
		"cancelled_status": cancelled.Status,
		"never_ran":        cancelled.Stats.Cancelled,
		"third":            thirdID,
		"executions":       executions,
		"execution_pages":  executionPages,
		"errors": map[string][]string{
			"get": failed(missing), "run": failed(missingRun), "execution": failed(missingExecution),
			"duplicate": failed(duplicate), "invalid": failed(invalid),
		},
		"deleted": deleted,
		"gone":    failed(gone),
	}))
}
