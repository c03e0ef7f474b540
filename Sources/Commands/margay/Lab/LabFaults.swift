/// Doing things to a lab that stands: cables, processes, moves.
import ArgumentParser
import LabProgram

extension Lab {
  struct Cut: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Pull out a cable: both ends lose the link.", discussion: "`margay lab status` names the links, like host1-rack.")
    @OptionGroup var lab: NameOption
    @Argument(help: "The link, like host1-rack.") var link: String
    @Flag(name: .long, help: "Drop all packets instead, while both ends believe in the link.") var silent = false
    func run() throws {
      let lab = try Lab.open(lab.name)
      try lab.cut(link, silently: silent)
      write("\(link): \(try lab.linkState(link).rawValue)\n")
    }
  }

  struct Mend: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Put a cable back that was cut, either way.")
    @OptionGroup var lab: NameOption
    @Argument(help: "The link, like host1-rack.") var link: String
    func run() throws {
      let lab = try Lab.open(lab.name)
      try lab.mend(link)
      write("\(link): \(try lab.linkState(link).rawValue)\n")
    }
  }

  struct Move: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Move a workload to another host; it keeps its addresses and its connections.")
    @OptionGroup var lab: NameOption
    @Argument(help: "web-1 …") var workload: String
    @Argument(help: "host1 …") var host: String
    func run() throws {
      let lab = try Lab.open(lab.name)
      try lab.move(workload, to: host)
      let addresses = lab.attached[workload]?.addresses.values.sorted().map(\.description) ?? []
      write("\(workload) is on \(host), with \(addresses.joined(separator: " "))\n")
    }
  }

  struct Kill: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Kill every process of a host, a router or the datastore at once, as a crash would.")
    @OptionGroup var lab: NameOption
    @Argument(help: "host1, rack, etcd …") var place: String
    func run() throws {
      let lab = try Lab.open(lab.name)
      write("killed \(try lab.killProcesses(of: try lab.server(place))) processes of \(place)\n")
    }
  }

  struct Start: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Start what was killed on a host, a router or the datastore, and wait until it is ready.")
    @OptionGroup var lab: NameOption
    @Argument(help: "host1, rack, etcd …") var place: String
    func run() throws {
      let lab = try Lab.open(lab.name)
      try lab.startProcesses(of: try lab.server(place))
    }
  }
}
