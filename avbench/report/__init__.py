"""`avbench report`: a static site of the runs at hand. No server, no network; everything that comes from data is escaped.

site.py       collects the runs, writes the pages, puts the finished folder in place
facts.py      what a run's files tell beside its values: provenance, the command that repeats it
gallery.py    which clips are shown with which media and metrics; worst and best ones
training.py   training runs: loss curves, held-out quality, pictures over time
rate.py       rate-quality plots of a group
plot.py       axes, ticks and lines in a picture's coordinates; labels.py places texts so that they do not collide
pages.py      templates, style, scripts, and the policy that lets nothing else run
"""

from avbench.report.site import Site, write_site

__all__ = ["Site", "write_site"]
