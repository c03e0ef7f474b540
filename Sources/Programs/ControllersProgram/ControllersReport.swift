/// How the controllers are: for the socket, the probes and Prometheus.
import Datastore
import HealthServer
import JSON
import MetricsText
import Names

extension Housekeeping.State {
  /// Ready: the datastore has been read, and somebody leads. That this process does not lead is no fault.
  func health() -> HealthReport {
    var datastore = HealthReport.Reporter("datastore")
    if settings == nil {
      datastore.fault = "not read since the start: \(datastoreProblem ?? "reading")"
    } else if let datastoreProblem {
      datastore.note = datastoreProblem
    }
    var election = HealthReport.Reporter("election")
    switch standing {
    case .leading: election.note = "this process leads"
    case .waiting(let leader): election.note = "\(leader ?? "another process") leads"
    case .unknown(let why): election.fault = why
    }
    return HealthReport([.init("loop"), datastore, election])
  }

  var problems: [String] {
    let tasks = records.sorted { $0.key < $1.key }.compactMap { name, record in record.problem.map { "\(name): \($0.words)" } }
    return (datastoreProblem.map { [$0] } ?? []) + (unreadable.map { [$0] } ?? []) + (settings?.problems ?? []) + tasks
  }

  func document(tasks: [ElectedTask]) -> JSONValue {
    func text(_ value: String?) -> JSONValue { value.map { .string($0) } ?? nil }
    func seconds(_ duration: Duration?) -> JSONValue { duration.map { .integer($0.components.seconds) } ?? nil }
    let leader: JSONValue =
      switch standing {
      case .leading: nil
      case .waiting(let leader): text(leader)
      case .unknown: nil
      }
    return [
      "leads": .bool(standing == .leading), "leadsSince": text(leadsSince?.text), "leader": leader,
      "tasks": .array(
        tasks.map { task in
          let record = records[task.name] ?? Housekeeping.Record()
          return [
            "name": .string(task.name), "purpose": .string(task.purpose), "periodSeconds": seconds(settings.flatMap { task.period($0) }),
            "isRunning": .bool(record.isRunning), "lastRun": text(record.lastRun?.text), "lastGood": text(record.lastGood?.text),
            "lastDeed": text(record.lastDeed?.words), "lastDeedAt": text(record.lastDeed?.at.text), "problem": text(record.problem?.words),
            "problemSince": text(record.problem?.since.text), "failed": .integer(Int64(record.failed)),
          ]
        }),
      "problems": .array(problems.map { .string($0) }),
    ]
  }

  func metrics(tasks: [ElectedTask], _ addMore: (inout MetricsPage) -> Void = { _ in }) -> String {
    var page = MetricsPage()
    page.gauge("margay_controllers_leader", "1 while this process does the cluster's housekeeping.", standing == .leading ? 1 : 0)
    page.counter("margay_controllers_terms_total", "How often this process was elected.", terms)
    page.gauge("margay_controllers_datastore_connected", "1 when the datastore answers.", datastoreProblem == nil ? 1 : 0)
    for task in tasks {
      let record = records[task.name] ?? Housekeeping.Record()
      for (outcome, count) in [("done", record.done), ("nothing to do", record.idle), ("failed", record.failed)] {
        page.counter(
          "margay_controllers_task_runs_total", "Runs of a task by outcome.", count, ["task": task.name, "outcome": outcome])
      }
      page.summary("margay_controllers_task_seconds", "Time that a run takes.", record.seconds, ["task": task.name])
      page.gauge(
        "margay_controllers_task_last_good_timestamp_seconds", "When it last ran without failing, since 1970; 0: not in this process.",
        Double(record.lastGood?.unixSeconds ?? 0), ["task": task.name])
    }
    addMore(&page)
    ProcessMetrics.add(to: &page)
    return page.text
  }
}
