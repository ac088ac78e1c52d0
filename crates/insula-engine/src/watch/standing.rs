//! Which VPSes step back on a full host, as a pure rule: what each has used in an interval goes in, where it stands after
//! it comes out. See `docs/adr/0014`.

/// The least CPU time, in ns. A VPS that uses less in an interval wants none, and has no share.
const LEAST_NS: u64 = 1_000_000;

/// Where a VPS stands between two intervals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// It has a hundredth of its weight.
    pub(crate) is_back: bool,
    /// CPU time that it was kept from; below zero, what it has taken from others: in ns.
    pub(crate) owed_ns: i64,
}

/// What a VPS has used in an interval, and where it stood.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Use {
    pub(crate) weight: u32,
    pub(crate) ns: u64,
    pub(crate) standing: Standing,
}

impl Use {
    /// Whether the VPS wants CPU time. One that has stepped back may want more than it got.
    fn wants_any(&self) -> bool {
        self.ns >= LEAST_NS || self.standing.is_back
    }

    /// What follows from an interval in which its fair share was `share_ns`, and all have used `all_ns` together.
    ///
    /// A VPS that uses its share or more steps back, and owes what it used above its share. (A single VPS steps back, too, for
    /// the sake of the next.) A VPS that has stepped back is owed what it lacks. If it gets more than its share, nobody else
    /// wanted that. It steps forward once it is owed as much as an interval at whole weight can bring. So it does not take
    /// more than it is owed, and no other VPS has to step forward because of it.
    fn settle(&self, share_ns: i64, all_ns: i64) -> Standing {
        let Standing { is_back, owed_ns } = self.standing;
        let lacks_ns = share_ns - i64::try_from(self.ns).unwrap_or(i64::MAX);
        match is_back {
            false if lacks_ns > 0 || !self.wants_any() => Standing::default(),
            false => Standing { is_back: true, owed_ns: owed_ns + lacks_ns },
            true => {
                let paid_ns = owed_ns.saturating_add(lacks_ns);
                let owed_ns = if lacks_ns > 0 { paid_ns.min(all_ns) } else { owed_ns.min(paid_ns.max(0)) };
                Standing { is_back: owed_ns < all_ns, owed_ns }
            }
        }
    }
}

/// Where each VPS stands after an interval. The CPU time that all have used is shared out, by weight, among those that want any.
pub(crate) fn settle_all(uses: &[Use]) -> Vec<Standing> {
    let wanting = || uses.iter().filter(|it| it.wants_any());
    let all_ns: i128 = wanting().map(|it| i128::from(it.ns)).sum();
    let weights: i128 = wanting().map(|it| i128::from(it.weight)).sum::<i128>().max(1);
    let ns = |ns: i128| i64::try_from(ns).unwrap_or(i64::MAX);
    uses.iter().map(|it| it.settle(ns(all_ns * i128::from(it.weight) / weights), ns(all_ns))).collect()
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const MS: i64 = 1_000_000;
    const FORWARD: Standing = Standing { is_back: false, owed_ns: 0 };

    fn back(owed_ms: i64) -> Standing {
        Standing { is_back: true, owed_ns: owed_ms * MS }
    }

    /// Where they stand after an interval. Each: weight, milliseconds used, where it stood.
    fn settled(uses: &[(u32, u64, Standing)]) -> Vec<Standing> {
        let use_of = |&(weight, ms, standing)| Use { weight, ns: ms * 1_000_000, standing };
        settle_all(&uses.iter().map(use_of).collect::<Vec<_>>())
    }

    #[test]
    fn who_uses_a_fair_share_steps_back_and_owes_what_was_above() {
        // Three bombs and a VPS that serves pages, on two CPUs.
        assert_eq!(
            settled(&[(100, 200, FORWARD), (100, 750, FORWARD), (100, 600, FORWARD), (100, 450, FORWARD)]),
            [FORWARD, back(-250), back(-100), FORWARD]
        );
        // Only the VPS that comes next goes first.
        assert_eq!(settled(&[(100, 700, FORWARD), (100, 700, FORWARD)]), [back(0), back(0)]);
        assert_eq!(settled(&[(100, 2, FORWARD), (100, 0, FORWARD)]), [back(0), FORWARD]);
        // A VPS that wants nothing has no share, and makes no other share smaller.
        assert_eq!(
            settled(&[(100, 0, FORWARD), (100, 0, FORWARD), (100, 900, FORWARD), (100, 300, FORWARD)]),
            [FORWARD, FORWARD, back(-300), FORWARD]
        );
        assert_eq!(settled(&[]), []);
    }

    #[test]
    fn a_share_goes_by_weight() {
        assert_eq!(settled(&[(100, 700, FORWARD), (900, 900, FORWARD)]), [back(-540), FORWARD]);
        assert_eq!(settled(&[(900, 900, FORWARD), (100, 100, FORWARD)]), [back(0), back(0)]);
    }

    #[test]
    fn who_has_stepped_back_is_owed_what_it_lacks() {
        // It pays back first, and what it has above its share is nobody's loss.
        assert_eq!(settled(&[(100, 300, back(-900)), (100, 1700, back(0))]), [back(-200), back(0)]);
        // What it is owed, it may get so, too.
        assert_eq!(settled(&[(100, 1300, back(800)), (100, 700, back(0))]), [back(500), back(300)]);
        assert_eq!(settled(&[(100, 1300, back(200)), (100, 700, back(0))]), [back(0), back(300)]);
    }

    #[test]
    fn who_is_owed_a_whole_interval_steps_forward() {
        let owed = |owed_ms| Standing { is_back: false, ..back(owed_ms) };
        assert_eq!(settled(&[(100, 10, back(1000)), (100, 1990, back(0))]), [back(1990), back(0)]);
        assert_eq!(settled(&[(100, 0, back(1000)), (100, 2000, back(0))]), [owed(2000), back(0)]);
        assert_eq!(settled(&[(100, 0, back(1900)), (100, 2000, back(0))]), [owed(2000), back(0)]);
        // It takes what it is owed, or does not want it after all.
        assert_eq!(settled(&[(100, 2000, owed(2000)), (100, 0, back(0))]), [back(1000), back(1000)]);
        assert_eq!(settled(&[(100, 10, owed(2000)), (100, 1990, back(0))]), [FORWARD, back(0)]);
    }

    /// What a VPS wants in each interval, in ms of two CPUs' 2000.
    #[derive(Debug, Clone, Copy)]
    enum Wish {
        /// Always the same.
        Steady(u32),
        /// All it can get for some intervals, nothing for some.
        Bursts { works: u32, rests: u32, begins: u32 },
        /// All it can get whenever it has its whole weight.
        WhenForward,
    }

    const ALL: u32 = 4000;

    impl Wish {
        fn of(self, interval: u32, standing: Standing) -> u32 {
            match self {
                Self::Steady(wish) => wish,
                Self::Bursts { works, rests, begins } if (interval + begins) % (works + rests) < works => ALL,
                Self::WhenForward if !standing.is_back => ALL,
                Self::Bursts { .. } | Self::WhenForward => 0,
            }
        }
    }

    /// How the kernel divides two seconds of CPU time, in ms, among those with these weights and wishes: by weight, and what
    /// one does not want is the others'.
    fn divide(wants: &[(f64, u32)]) -> Vec<f64> {
        let (mut has, mut left) = (vec![0.0; wants.len()], 2000.0);
        loop {
            let lack = |it: usize| f64::from(wants[it].1) - has[it];
            let hungry: Vec<usize> = (0..wants.len()).filter(|it| lack(*it) > 0.001).collect();
            let weights: f64 = hungry.iter().map(|it| wants[*it].0).sum();
            if hungry.is_empty() || left < 0.001 {
                return has;
            }
            let given: Vec<f64> =
                hungry.iter().map(|it| (left * wants[*it].0 / weights).min(lack(*it))).collect();
            left -= given.iter().sum::<f64>();
            hungry.iter().zip(given).for_each(|(it, more)| has[*it] += more);
        }
    }

    /// What each has in [`INTERVALS`], in ms, and in how many of them it has its whole weight.
    fn live(vpses: &[(u32, Wish, Standing)]) -> (Vec<f64>, Vec<u32>) {
        let mut standings: Vec<Standing> = vpses.iter().map(|vps| vps.2).collect();
        let (mut sums, mut forward) = (vec![0.0; vpses.len()], vec![0; vpses.len()]);
        for interval in 0..INTERVALS {
            let wants = vpses.iter().zip(&standings).map(|((weight, wish, _), standing)| {
                let weight = if standing.is_back { weight / 10 } else { weight * 10 }; // as `cpu.shares` has it
                (f64::from(weight), wish.of(interval, *standing))
            });
            let has = divide(&wants.collect::<Vec<_>>());
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // some thousand at most
            let use_of = |it: usize| (vpses[it].0, has[it] as u64, standings[it]);
            standings = settled(&(0..vpses.len()).map(use_of).collect::<Vec<_>>());
            sums.iter_mut().zip(has).for_each(|(sum, more)| *sum += more);
            forward.iter_mut().zip(&standings).for_each(|(sum, it)| *sum += u32::from(!it.is_back));
        }
        (sums, forward)
    }

    const INTERVALS: u32 = 1000;

    /// A VPS's part of what there is in [`INTERVALS`], by weight, in ms.
    fn share(vpses: &[(u32, Wish, Standing)], it: usize) -> f64 {
        let weights: f64 = vpses.iter().map(|vps| f64::from(vps.0)).sum();
        f64::from(INTERVALS) * 2000.0 * f64::from(vpses[it].0) / weights
    }

    #[test]
    fn who_rests_now_and_then_has_no_more_than_its_share() {
        let clever = [
            Wish::Bursts { works: 1, rests: 1, begins: 0 },
            Wish::Bursts { works: 1, rests: 19, begins: 0 },
            Wish::WhenForward,
        ];
        for wish in clever {
            let mut vpses = vec![(100, Wish::Steady(ALL), FORWARD); 9];
            vpses.push((100, wish, FORWARD));
            let (has, _) = live(&vpses);
            assert!(has[9] < 1.02 * share(&vpses, 9), "{wish:?}: {has:?}");
        }
    }

    #[test]
    fn who_wants_little_goes_first_and_who_wants_all_stays_back() {
        let mut vpses = vec![(100, Wish::Steady(ALL), FORWARD); 9];
        vpses[0].2 = Standing { is_back: false, owed_ns: 2000 * MS }; // it takes all of the first interval
        vpses.push((100, Wish::Steady(100), back(-1000)));
        let (_, forward) = live(&vpses);
        assert!(forward[9] > INTERVALS - 50 && forward[..9].iter().all(|it| *it < 2), "{forward:?}");
    }

    fn a_wish() -> impl Strategy<Value = Wish> {
        prop_oneof![
            (1..ALL).prop_map(Wish::Steady),
            Just(Wish::Steady(ALL)),
            (1..30u32, 1..30u32, 0..60u32).prop_map(|(works, rests, begins)| Wish::Bursts {
                works,
                rests,
                begins
            }),
            Just(Wish::WhenForward),
        ]
    }

    fn a_standing() -> impl Strategy<Value = Standing> {
        prop_oneof![Just(FORWARD), (-2000..2000i64).prop_map(back)]
    }

    proptest! {
        /// Whatever the others do, and wherever it begins: a VPS that always wants all it can get has its fair share.
        #[test]
        fn nobody_is_kept_from_its_share(
            vpses in vec((100..=1000u32, a_wish(), a_standing()), 1..12)
        ) {
            let (has, _) = live(&vpses);
            for (it, vps) in vpses.iter().enumerate() {
                if let Wish::Steady(ALL) = vps.1 {
                    prop_assert!(has[it] >= 0.95 * share(&vpses, it) - 8000.0, "{it}: {has:?}");
                }
            }
        }

        /// VPSes whose wants stay the same get what they want, or what they would get if nobody stepped back.
        #[test]
        fn nobody_goes_short(
            vpses in vec((100..=1000u32, (1..ALL).prop_map(Wish::Steady), a_standing()), 1..12)
        ) {
            let (has, _) = live(&vpses);
            let wants: Vec<_> = vpses.iter().map(|(weight, wish, _)| (f64::from(*weight), wish.of(0, FORWARD))).collect();
            for (it, whole) in divide(&wants).into_iter().enumerate() {
                prop_assert!(has[it] >= 0.9 * whole * f64::from(INTERVALS) - 8000.0, "{it}: {has:?} {wants:?}");
            }
        }
    }
}
