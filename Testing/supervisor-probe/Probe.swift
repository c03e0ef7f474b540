/// A supervisor in a process of its own, for tests that signal and kill it: `supervisor-probe RUNDIR NAME=SCRIPT …` keeps a shell running
/// for each script.
import Logging
import NodeProgram

@main
struct Probe {
  static func main() throws {
    let arguments = CommandLine.arguments.dropFirst()
    guard let directory = arguments.first else { return }
    let children = arguments.dropFirst().map { argument -> SupervisedChild in
      let parts = argument.split(separator: "=", maxSplits: 1)
      return SupervisedChild(name: String(parts[0]), arguments: ["-c", String(parts[1])])
    }
    try Supervisor(executable: "/bin/sh", children: children, runDirectory: directory, log: Logger(label: "node")).run()
  }
}
