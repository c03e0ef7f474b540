/// Clocks and samples. CPU is user plus system time; on a machine that does other work as well it is the figure to trust.

import Glibc
import Sockets

/// What something cost, in seconds.
struct Cost {
  var cpu = 0.0
  var wall = 0.0
}

enum CPUClock {
  private static func seconds(_ clock: clockid_t) -> Double? {
    var time = timespec()
    guard clock_gettime(clock, &time) == 0 else { return nil }
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
  }
  /// Of this process, all threads.
  static var own: Double { seconds(CLOCK_PROCESS_CPUTIME_ID)! }
  static var thread: Double { seconds(CLOCK_THREAD_CPUTIME_ID)! }
  /// Of the children that have been waited for.
  static var children: Double {
    var usage = rusage()
    getrusage(__rusage_who_t(RUSAGE_CHILDREN.rawValue), &usage)
    func seconds(_ time: timeval) -> Double { Double(time.tv_sec) + Double(time.tv_usec) / 1e6 }
    return seconds(usage.ru_utime) + seconds(usage.ru_stime)
  }
  /// Of a running process; 0 when it is gone.
  static func process(_ pid: Int32) -> Double {
    var clock = clockid_t()
    guard clock_getcpuclockid(pid, &clock) == 0 else { return 0 }
    return seconds(clock) ?? 0
  }
}

/// This process's own work.
func cost(_ body: () throws -> Void) rethrows -> Cost {
  let (wall, cpu) = (MonotonicInstant.now, CPUClock.own)
  try body()
  return Cost(cpu: CPUClock.own - cpu, wall: MonotonicInstant.now.seconds(since: wall))
}
/// Work that is done by children started and waited for in `body`; the fork on our side is not theirs.
func costOfChildren(_ body: () throws -> Void) rethrows -> Cost {
  let (wall, cpu) = (MonotonicInstant.now, CPUClock.children)
  try body()
  return Cost(cpu: CPUClock.children - cpu, wall: MonotonicInstant.now.seconds(since: wall))
}

extension MonotonicInstant {
  func seconds(since earlier: MonotonicInstant) -> Double { Double(nanoseconds - earlier.nanoseconds) / 1e9 }
}

/// Values of one measure, in its unit.
struct Samples {
  var values: [Double] = []
  init() {}
  init(_ value: Double) { values = [value] }
  init(_ values: [Double]) { self.values = values }
  mutating func add(_ value: Double) { values.append(value) }
  func scaled(_ factor: Double) -> Samples { Samples(values.map { $0 * factor }) }

  /// The value below which `share` of all lie.
  func quantile(_ share: Double) -> Double {
    guard !values.isEmpty else { return .nan }
    let sorted = values.sorted()
    return sorted[min(Int((Double(sorted.count) * share).rounded(.up)) - 1, sorted.count - 1).clamped(0)]
  }
  var median: Double {
    guard !values.isEmpty else { return .nan }
    let sorted = values.sorted()
    let middle = sorted.count / 2
    return sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
  }
  var count: Int { values.count }
}

extension Int {
  fileprivate func clamped(_ least: Int) -> Int { Swift.max(self, least) }
}

/// CPU and wall of one thing, measured several times.
struct Costs {
  var cpu = Samples()
  var wall = Samples()
  mutating func add(_ cost: Cost) {
    cpu.add(cost.cpu)
    wall.add(cost.wall)
  }
}
